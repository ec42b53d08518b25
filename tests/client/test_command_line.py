"""``hidream-edit edit --server`` as somebody at a terminal meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.api.conftest import Server
from tests.client.conftest import KEY
from tests.support.describer_server import FakeServer
from typer.testing import CliRunner, Result

from hidream_edit.cli.main import app
from hidream_edit.wiring.exit_codes import ExitCode

Edit = Callable[..., Result]


@pytest.fixture
def edit(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Run the command in a folder with one orange photograph; loading an engine is a fault."""

    def no_engine(*_: object) -> None:
        raise AssertionError("an engine was loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hidream_edit.wiring.edit.load_engine", no_engine)
    for name in [name for name in os.environ if name.startswith("HIDREAM_EDIT_")]:
        monkeypatch.delenv(name)
    Image.new("RGB", (9, 7), (200, 100, 0)).save("photo.png")

    def run(*words: str) -> Result:
        address = [] if "--server" in words else ["--server", server.url]
        return CliRunner().invoke(app, ["edit", *words, *address], catch_exceptions=False)

    return run


def test_the_result_lies_where_it_always_does(edit: Edit) -> None:
    result = edit("photo.png", "make it night")
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "photo-edited.jpg\n")
    with Image.open("photo-edited.jpg") as image:
        assert image.size == (9, 7)


def test_every_option_of_the_edit_reaches_the_server(edit: Edit) -> None:
    result = edit(
        "photo.png", "make it night", "--description", "a night", "--negative-prompt", "day", "--steps", "2",
        "--seed", "5", "--guidance-scale", "2", "--image-guidance-scale", "1.5", "--num-images", "2", "-o", "n.png",
        "--no-enable-safety-checker", "--quality", "balanced", "--json",
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert [image["url"] for image in report["images"]] == ["n-1.png", "n-2.png"]
    settings = report["settings"]
    assert (
        settings
        | {
            "target_image_description": "a night",
            "negative_prompt": "day",
            "num_inference_steps": 2,
            "seed": 5,
            "guidance_scale": 2,
            "image_guidance_scale": 1.5,
            "num_images": 2,
            "quality": "balanced",
        }
        == settings
    )
    assert report["quality"]["preset"] == "balanced"
    assert report["has_nsfw_concepts"] == [False, False]
    assert report["warnings"] == []
    assert report["request_id"]


def test_folders_comparisons_and_addresses_work_as_without_a_server(edit: Edit) -> None:
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(Path("in") / name)
    assert edit("in", "make it night", "-o", "out/").exit_code == ExitCode.OK
    assert sorted(os.listdir("out")) == ["a-edited.jpg", "b-edited.jpg"]  # noqa: PTH208
    assert edit("photo.png", "make it night", "--compare", "both.png").exit_code == ExitCode.OK
    assert Path("both.png").exists()
    result = edit("photo.png", "make it night", "--sync-mode", "--output-format", "png")
    uri = json.loads(result.stdout)["images"][0]["url"]
    assert edit(uri, "make it night", "-o", "again.png").exit_code == ExitCode.OK
    with Image.open("again.png") as image:
        assert image.getpixel((0, 0)) == (200, 100, 0)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["photo.png", "x", "--guidance-scale", "21"], ExitCode.USAGE, "less than or equal to 20"),
        (
            ["photo.png", "x", "--device", "cpu", "--keep-aspect"],
            ExitCode.USAGE,
            "--device, --keep-aspect: not together",
        ),
        (["photo.png", "x", "--save-steps", "steps"], ExitCode.USAGE, "--save-steps: not together"),
        (["photo.png", "x", "-o", "result.tiff"], ExitCode.USAGE, "name it .png"),
        (["gone.png", "x"], ExitCode.SOURCE, "No such file"),
        (["data:image/png;base64,AAAA", "x"], ExitCode.SOURCE, "not a picture"),
        (["photo.png", "x", "-o", "photo.png/below/result.png"], ExitCode.OUTPUT, "cannot write"),
        (["photo.png", "fail"], ExitCode.SERVER, "server's log"),
        (["photo.png", "x", "--server", "ftp://x"], ExitCode.SERVER, "begins with http"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(edit: Edit, words: list[str], code: ExitCode, message: str) -> None:
    result = edit(*words)
    assert message in " ".join(result.stderr.split())
    assert result.exit_code == code


def test_a_server_that_wants_a_key_says_so_and_takes_it(edit: Edit, server: Server) -> None:
    key = server.new_key()
    refused = edit("photo.png", "make it night")
    assert refused.exit_code == ExitCode.SERVER
    assert "asks for a key" in " ".join(refused.stderr.split())
    wrong = edit("photo.png", "make it night", "--key", KEY)
    assert wrong.exit_code == ExitCode.SERVER
    assert KEY not in wrong.output
    assert edit("photo.png", "make it night", "--key", key).exit_code == ExitCode.OK


def test_a_describer_beside_the_user_is_still_asked(edit: Edit, fake_describer: FakeServer) -> None:
    report = json.loads(edit("photo.png", "white", "--describer-url", fake_describer.address, "--json").stdout)
    assert report["settings"]["target_image_description"] == "A white square."


# Whoever starts the tests in the background may have told their children to ignore Ctrl-C.
LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from hidream_edit.cli.main import run; run()"
)


def test_ctrl_c_cancels_at_the_server(slow_server: Server, tmp_path: Path) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "photo.png")
    command = [sys.executable, "-c", LISTENING, "edit", "photo.png", "make it night", "--steps", "50"]
    running = subprocess.Popen(
        [*command, "--server", slow_server.url], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    deadline = time.monotonic() + 30
    # Well under way: the answer to the submit has arrived, so the command knows what to cancel.
    while not ((jobs := slow_server.store.recent(1)) and len(slow_server.store.events(jobs[0].id)) > 5):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, printed = running.communicate(timeout=30)
    assert running.returncode == ExitCode.STOPPED
    assert "stopped; what was finished before is kept" in printed
    assert slow_server.result(jobs[0].id).status_code == 499


def test_an_exact_edit_reports_no_trade(edit: Edit) -> None:
    assert json.loads(edit("photo.png", "make it night", "--json").stdout)["quality"] is None


@pytest.mark.parametrize("words", [("--float8",), ("--quantization", "nf4")])
def test_how_weights_are_kept_and_multiplied_is_a_matter_of_the_engine_there(
    words: tuple[str, ...], edit: Edit
) -> None:
    result = edit("photo.png", "make it night", *words)
    assert result.exit_code == ExitCode.USAGE
    assert f"{words[0]}: not together with --server" in result.stderr
