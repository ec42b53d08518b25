"""``hidream-edit edit`` as somebody at a terminal meets it, with a tiny random model."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tests.support.describer_server import FakeServer
from typer.testing import CliRunner, Result

from hidream_edit.cli.main import app
from hidream_edit.pictures.encode import read_about
from hidream_edit.wiring.exit_codes import ExitCode


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.jpg"
    Image.linear_gradient("L").convert("RGB").resize((90, 70)).save(file)
    return file


Edit = Callable[..., Result]


@pytest.fixture
def edit(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Run the command in an empty folder with two steps of the tiny model."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HIDREAM_EDIT_")]:
        monkeypatch.delenv(name)

    def run(*words: str) -> Result:
        options = ["--model", str(tiny_folder), "--steps", "2", "--seed", "5", "--quiet", "--device", "cpu"]
        return CliRunner().invoke(app, ["edit", *words, *options], catch_exceptions=False)

    return run


def test_the_result_lies_beside_its_name_and_the_path_is_printed(edit: Edit, photo: Path, tmp_path: Path) -> None:
    result = edit(str(photo), "make it night")
    assert result.exit_code == ExitCode.OK
    assert result.stdout == "photo-edited.jpg\n"
    assert size_of(tmp_path / "photo-edited.jpg") == (90, 70)
    assert "random weights" in result.stderr


def test_the_file_tells_how_to_make_it_again(edit: Edit, photo: Path, tmp_path: Path) -> None:
    edit(str(photo), "make it night", "--output", "night.png", "--num-images", "2")
    about = read_about((tmp_path / "night-2.png").read_bytes())
    assert about["seed"] == 6
    assert about["settings"]["edit_instruction"] == "make it night"  # type: ignore[index]


def test_every_field_of_the_api_is_an_option(edit: Edit, photo: Path) -> None:
    result = edit(
        str(photo), "make it night", "--description", "a night", "--negative-prompt", "day", "--guidance-scale", "2",
        "--image-guidance-scale", "1.5", "--num-images", "1", "--enable-safety-checker", "--output-format", "png",
        "--keep-aspect", "--detail", "--refine-strength", "0", "--sync-mode",
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert (
        report["settings"]
        | {
            "target_image_description": "a night",
            "negative_prompt": "day",
            "guidance_scale": 2,
            "image_guidance_scale": 1.5,
            "fit": "pad",
            "detail": True,
        }
        == report["settings"]
    )
    assert report["prompt"] == "Editing Instruction: make it night. Target Image Description: a night"
    image = Image.open(io.BytesIO(base64.b64decode(report["images"][0]["url"].partition(",")[2])))
    assert (image.format, image.size) == ("PNG", (90, 70))
    assert any("safety checker" in warning for warning in report["warnings"])


def test_the_same_seed_writes_the_same_bytes(edit: Edit, photo: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        assert edit(str(photo), "make it night", "-o", name).exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_folder_of_pictures_goes_into_a_folder(edit: Edit, tmp_path: Path) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (20, 20)).save(sources / name)
    broken = sources / f"{'c' * 90}.png"
    broken.write_bytes(b"no picture")
    result = edit(str(sources), "make it night", "-o", "out/")
    assert result.exit_code == ExitCode.SOURCE
    assert str(broken) in result.stderr  # in one piece, however long: who reads a pipe searches for it
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a-edited.jpg", "b-edited.jpg"]


def test_steps_and_comparison_are_files_too(edit: Edit, photo: Path, tmp_path: Path) -> None:
    edit(str(photo), "make it night", "--save-steps", "steps", "--compare", "both.png")
    assert sorted(file.name for file in (tmp_path / "steps").iterdir()) == [
        "image-1-step-001.jpg",
        "image-1-step-002.jpg",
    ]
    assert size_of(tmp_path / "both.png")[0] > 180


def test_standard_input_and_output_make_a_filter(edit: Edit, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    typed = SimpleNamespace(stdin=SimpleNamespace(buffer=io.BytesIO(photo.read_bytes())))
    monkeypatch.setattr("hidream_edit.pictures.sources.sys", typed)
    monkeypatch.setattr("hidream_edit.wiring.outputs.sys", SimpleNamespace(stdout=SimpleNamespace(buffer=out)))
    assert edit("-", "make it night", "-o", "-", "--output-format", "png", "--json").exit_code == 0
    assert Image.open(out).size == (90, 70)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{photo}", "x", "--guidance-scale", "21"], ExitCode.USAGE, "less than or equal to 20"),
        (["{photo}", "x", "--refine-strength", "0.3"], ExitCode.USAGE, "needs the base model"),
        (["{photo}", "x", "-o", "result.tiff"], ExitCode.USAGE, "name it .png"),
        (["{photo}", "{photo}", "x", "-o", "one.png"], ExitCode.USAGE, "give a folder"),
        (["{photo}", "{photo}", "x", "-o", "-"], ExitCode.USAGE, "standard output takes one picture"),
        (["gone.jpg", "x"], ExitCode.SOURCE, "No such file"),
        (["data:image/png;base64,AAAA", "x"], ExitCode.SOURCE, "not a picture"),
        (["{photo}", "x", "-o", "{photo}/below/result.png"], ExitCode.OUTPUT, "cannot write"),
        (["{photo}", "x", "--model", "nowhere/at-all"], ExitCode.MODEL, "nowhere/at-all"),
        (["{photo}", "x", "--device", "cuda:99"], ExitCode.DEVICE, "cuda:99"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code_and_says_what_to_do(
    tiny_folder: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: ExitCode,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [word.replace("{photo}", str(photo)) for word in words]
    options = ["--steps", "1", "--quiet"]
    if "--model" not in filled:
        options += ["--model", str(tiny_folder)]
    result = CliRunner().invoke(app, ["edit", *filled, *options])
    assert message in " ".join(result.stderr.split())
    assert result.exit_code == code


def test_an_instruction_without_a_picture_is_a_usage_error(edit: Edit) -> None:
    result = edit("make it night")
    assert result.exit_code == ExitCode.USAGE
    assert "at least one image" in result.stderr


def test_a_fault_of_the_program_is_called_that(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hidream_edit.wiring.edit.load_engine", broken)
    result = CliRunner().invoke(app, ["edit", str(photo), "x"])
    assert result.exit_code == ExitCode.FAILED
    assert "a fault of this program" in result.stderr
    assert isinstance(CliRunner().invoke(app, ["edit", str(photo), "x", "--debug"]).exception, ZeroDivisionError)


def test_a_describer_writes_the_description_and_a_clearer_instruction(
    edit: Edit, photo: Path, fake_describer: FakeServer
) -> None:
    result = edit(str(photo), "white please", "--describer-url", fake_describer.address, "--json")
    report = json.loads(result.stdout)
    assert report["prompt"] == ("Editing Instruction: Make the square white. Target Image Description: A white square.")
    own = edit(str(photo), "x", "--description", "mine", "--describer-url", fake_describer.address, "--json")
    assert json.loads(own.stdout)["settings"]["target_image_description"] == "mine"


def test_a_describer_that_cannot_be_reached_costs_a_warning_only(edit: Edit, photo: Path) -> None:
    result = edit(str(photo), "make it night", "--describer-url", "http://127.0.0.1:9/v1", "--json")
    assert result.exit_code == ExitCode.OK
    assert "going on with the plain instruction" in json.loads(result.stdout)["warnings"][0]
