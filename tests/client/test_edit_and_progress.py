"""What one holds after an edit, and what a terminal shows meanwhile."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tests.client.conftest import Remote, completed, line, queued, running

import hidream_edit
from hidream_edit.client import Done, Edit, LogLine, Queued, Running
from hidream_edit.client.progress import shown, words_of
from hidream_edit.client.sources import source_of


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def an_edit(*images: Image.Image, kind: str = "PNG") -> Edit:
    return Edit(
        images=images,
        files=tuple(encoded(image, kind) for image in images),
        urls=("http://edits.example/1",) * len(images),
        seed=7,
        prompt="make it night",
        has_nsfw_concepts=(),
        timings={"inference": 1.0},
        request_id="1",
    )


CLEAR = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
GREY = Image.new("RGB", (4, 4), "grey")


def test_saving_writes_the_bytes_that_the_server_made(tmp_path: Path) -> None:
    edit = an_edit(GREY)
    assert edit.save(tmp_path / "night.png") == (tmp_path / "night.png",)
    assert (tmp_path / "night.png").read_bytes() == edit.files[0]


def test_saving_without_a_suffix_takes_the_format_that_is_there(tmp_path: Path) -> None:
    assert an_edit(GREY, kind="JPEG").save(tmp_path / "night") == (tmp_path / "night.jpg",)


def test_saving_in_another_format_converts_and_shows_transparency_on_white(tmp_path: Path) -> None:
    an_edit(CLEAR).save(str(tmp_path / "night.jpg"))
    with Image.open(tmp_path / "night.jpg") as image:
        assert image.format == "JPEG"
        assert image.getpixel((0, 0)) == (255, 255, 255)


def test_saving_several_numbers_them(tmp_path: Path) -> None:
    names = [path.name for path in an_edit(GREY, GREY).save(tmp_path / "night.png")]
    assert names == ["night-1.png", "night-2.png"]


def test_saving_as_nothing_known_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extension"):
        an_edit(GREY).save(tmp_path / "night.nothing")


def test_a_notebook_gets_pictures_inside_the_page() -> None:
    bundle = an_edit(CLEAR, GREY)._repr_mimebundle_(include=None)
    assert bundle["text/html"].count("data:image/") == 2
    assert "after, seed 8" in bundle["text/html"]
    assert "http" not in bundle["text/html"]
    assert "before" not in bundle["text/html"]
    assert bundle["text/plain"].startswith("Edit(seed=7")


def test_large_pictures_are_shown_small() -> None:
    large = Image.linear_gradient("L").convert("RGB").resize((2000, 3000))
    assert len(an_edit(large)._repr_html_()) < 100_000


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F", "HSV"])
def test_an_image_of_any_mode_can_be_sent(mode: str) -> None:
    source = source_of(Image.new(mode, (3, 2)))
    assert source.content_type == "image/png"
    assert Image.open(io.BytesIO(source.data)).size == (3, 2)


def test_bytes_are_sent_as_they_are_and_called_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "photo.dat"
    file.write_bytes(encoded(GREY, "WEBP"))
    source = source_of(file)
    assert (source.data, source.content_type, source.name) == (file.read_bytes(), "image/webp", "photo.dat")


STEP = LogLine("", "INFO", "step 3 of 9")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Queued("1", 4), "waiting, 4 before"),
        (Queued("1", 0), "waiting, next"),
        (Running("1"), "starting"),
        (Running("1", (STEP, LogLine("", "INFO", "something else"))), "step 3 of 9"),
        (Done("1", ok=True), "fetching"),
        (Done("1", ok=False), "failed"),
    ],
)
def test_a_bar_says_how_far_it_is(status: Queued | Running | Done, words: str) -> None:
    assert words_of(status) == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("progress", [None, True])
def test_a_terminal_shows_a_bar(remote: Remote, monkeypatch: pytest.MonkeyPatch, progress: bool | None) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    remote.before["status"] = [queued(2), running(line("step 1 of 2")), completed()]
    with remote.client() as client:
        client.edit(encoded(GREY, "PNG"), "make it night", progress=progress)
    assert terminal.getvalue()


def test_of_several_edits_at_a_time_one_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with shown(None) as first, shown(None) as second:
        assert first is not None
        assert second is None
    with shown(None) as third:
        assert third is not None


def test_nothing_else_shows_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(None) as listener:
        assert listener is None  # standard error is a file here
    monkeypatch.setattr(sys, "stderr", Terminal())
    with shown(False) as listener:
        assert listener is None
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    with shown(True) as listener:
        assert listener is None


def loaded_by(code: str, *names: str) -> str:
    program = f"import sys; {code}; print([name for name in {names} if name in sys.modules])"
    return subprocess.check_output([sys.executable, "-c", program], text=True).strip()


def test_importing_the_package_loads_neither_the_client_nor_what_it_needs() -> None:
    assert loaded_by("import hidream_edit", "torch", "numpy", "PIL", "httpx", "hidream_edit.client") == "[]"


def test_the_client_loads_neither_torch_nor_numpy_nor_a_server() -> None:
    heavy = ("torch", "transformers", "numpy", "pydantic", "starlette", "hidream_edit.engine", "hidream_edit.api")
    assert loaded_by("from hidream_edit import Client, AsyncClient; Client()", *heavy) == "[]"


def test_the_package_offers_both_clients_and_what_it_offered_before() -> None:
    assert {"Client", "AsyncClient", "EditPipeline", "EditResult", "__version__"} <= set(dir(hidream_edit))
    with pytest.raises(AttributeError, match="Clients"):
        hidream_edit.Clients  # noqa: B018
