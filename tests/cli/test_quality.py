"""``--quality``, ``--float8`` and ``--quantization``, and the settings of the same names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from hidream_edit.cli.main import app
from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import EditDone, EditStarted
from hidream_edit.domain.errors import InputInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality
from hidream_edit.settings import ModelSettings
from hidream_edit.wiring.exit_codes import ExitCode
from hidream_edit.wiring.runner import load


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.new("RGB", (40, 40), "orange").save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def report(photo: str, *words: str) -> dict[str, object]:
    done = typed("edit", photo, "make it night", "--json", "-q", "-o", str(Path(photo).with_name("out.png")), *words)
    assert done.exit_code == ExitCode.OK, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_an_edit_here_says_what_was_traded(photo: str) -> None:
    told = report(photo, "--quality", "turbo", "--steps", "2")
    assert isinstance(told["quality"], dict)
    assert (told["quality"]["preset"], told["quality"]["steps"]) == ("turbo", 2)
    assert report(photo, "--steps", "2")["quality"] is None


def test_the_setting_is_the_default_and_the_option_wins(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDREAM_EDIT_QUALITY", "balanced")
    told = report(photo, "--steps", "1")["quality"]
    assert isinstance(told, dict)
    assert told["preset"] == "balanced"
    assert report(photo, "--steps", "1", "--quality", "exact")["quality"] is None


def test_a_wrong_setting_is_told_before_anything_loads(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDREAM_EDIT_QUALITY", "best")
    done = typed("edit", photo, "make it night")
    assert done.exit_code == ExitCode.USAGE
    assert "'best'" in done.stderr


def test_a_wrong_option_is_told(photo: str) -> None:
    assert typed("edit", photo, "make it night", "--quality", "best").exit_code == ExitCode.USAGE


def test_float8_without_such_a_gpu_is_refused(photo: str) -> None:
    done = typed("edit", photo, "make it night", "--float8", "--device", "cpu")
    assert done.exit_code == ExitCode.DEVICE
    assert "8.9" in done.stderr


@pytest.mark.parametrize("command", ["serve", "runner", "edit"])
def test_every_command_that_loads_a_model_takes_all_four(command: str) -> None:
    words = typed(command, "--help").stdout
    assert "--quality" in words
    assert "--float8" in words
    assert "--quantization" in words
    assert "--measures" in words


def test_measures_are_an_option_and_a_setting(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report(photo, "--steps", "1", "--measures", "ahead,no-trims")["quality"] is None
    monkeypatch.setenv("HIDREAM_EDIT_MEASURES", "quick")
    done = typed("edit", photo, "make it night")
    assert done.exit_code == ExitCode.USAGE
    assert "'quick' is no measure" in done.stderr


def test_an_edit_with_packed_weights_says_so(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = report(photo, "--steps", "1", "--quantization", "nf4")["quality"]
    assert isinstance(told, dict)
    assert (told["preset"], told["quantization"]) == ("exact", "nf4")
    monkeypatch.setenv("HIDREAM_EDIT_QUANTIZATION", "int8")
    told = report(photo, "--steps", "1", "--quality", "balanced")["quality"]
    assert isinstance(told, dict)
    assert (told["preset"], told["quantization"]) == ("balanced", "int8")
    assert report(photo, "--steps", "1", "--quantization", "none")["quality"] is None


def test_a_wrong_quantization_is_told_before_anything_loads(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("edit", photo, "make it night", "--quantization", "int3").exit_code == ExitCode.USAGE
    monkeypatch.setenv("HIDREAM_EDIT_QUANTIZATION", "int3")
    done = typed("edit", photo, "make it night")
    assert done.exit_code == ExitCode.USAGE
    assert "'int3'" in done.stderr


def test_a_plan_may_be_shown_for_packed_weights() -> None:
    words = ("models", "--plan", "HiDream-E1-Full", "--memory", "16GB")
    assert "streamed" in typed(*words).stdout
    shown = typed(*words, "--quantization", "nf4").stdout
    assert "streamed" not in shown
    assert "nf4" in shown
    refused = typed("models", "--plan", "HiDream-E1-Full", "--memory", "16GB", "--host-memory", "24GB")
    assert "with quantization int8 it fits" in refused.stderr


def test_a_runner_has_the_default_that_it_was_given() -> None:
    engine = load(ModelSettings(model="null", quality="turbo"))
    assert engine.defaults["quality"] is Quality.TURBO
    gray = Picture(8, 8, bytes(8 * 8 * 3))
    started, *_, done = engine.edit(gray, EditInput(edit_instruction=""))
    assert isinstance(started, EditStarted)
    assert started.settings.quality is Quality.TURBO
    assert isinstance(done, EditDone)
    assert done.traded is not None
    with pytest.raises(InputInvalid, match="best"):
        load(ModelSettings(model="null", quality="best"))
