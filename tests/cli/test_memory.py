"""``--memory``, and ``models --plan``, which shows what it would do."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hidream_edit.cli.main import app
from hidream_edit.settings import ModelSettings
from hidream_edit.wiring.exit_codes import ExitCode


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, [*words], env={"COLUMNS": "200"})


def test_a_plan_of_the_real_model_needs_no_files() -> None:
    done = typed("models", "--plan", "HiDream-E1-Full", "--memory", "24GB")
    assert done.exit_code == 0
    assert "text_encoder_4" in done.stdout
    assert "of 48 blocks on the device" in done.stdout


def test_a_plan_as_json_has_bytes() -> None:
    done = typed("models", "--plan", "HiDream-ai/HiDream-E1-Full", "--memory", "16GB", "--json")
    facts = json.loads(done.stdout)
    assert facts["peak"] <= 16e9
    assert set(facts["phases"]) == {"encode the words", "encode the source", "denoise", "decode"}


def test_without_an_amount_everything_is_on_the_device() -> None:
    assert json.loads(typed("models", "--plan", "HiDream-E1-Full", "--json").stdout)["host"] == 0


def test_host_memory_is_a_bound_too() -> None:
    done = typed("models", "--plan", "HiDream-E1-Full", "--memory", "24GB", "--host-memory", "38GB")
    assert "read from disk" in done.stdout


def test_the_refine_stage_is_planned_with_its_base() -> None:
    assert "refine stage" in typed("models", "--plan", "HiDream-I1-Full", "--memory", "24GB").stdout


def test_a_plan_of_a_folder_reads_headers(tiny_folder: Path) -> None:
    done = typed("models", "--plan", str(tiny_folder), "--memory", "2GB", "--dtype", "float32")
    assert "on the device, 5 blocks" in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("HiDream-E1-Full", "--memory", "4GB"), ExitCode.DEVICE, "smallest that would do"),
        (("HiDream-E1-Full", "--memory", "lots"), ExitCode.USAGE, "not an amount"),
        (("HiDream-E1-Full", "--dtype", "int3"), ExitCode.USAGE, "not a precision"),
        (("nowhere-at-all", "--memory", "4GB"), ExitCode.MODEL, "not a folder"),
    ],
)
def test_what_cannot_be_planned_says_why(options: tuple[str, ...], code: ExitCode, words: str) -> None:
    done = typed("models", "--plan", *options)
    assert done.exit_code == code
    assert words in " ".join(done.output.split())


def test_an_edit_within_too_little_is_refused(tmp_path: Path) -> None:
    photo = Path(__file__).parents[2] / "examples" / "photo.jpg"
    done = typed("edit", str(photo), "make it night", "--memory", "100MB", "--output", str(tmp_path / "out.png"))
    assert done.exit_code == ExitCode.DEVICE
    assert not (tmp_path / "out.png").exists()


def test_the_setting_has_the_name_that_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDREAM_EDIT_MEMORY", "24GB")
    assert ModelSettings().memory == "24GB"


@pytest.mark.parametrize("command", ["edit", "serve", "runner"])
def test_every_command_that_edits_takes_it(command: str) -> None:
    assert "--memory" in typed(command, "--help").stdout


def test_a_runner_logs_its_plan_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    from hidream_edit.wiring.runner import tell_line_by_line

    with caplog.at_level(logging.INFO, "hidream_edit"):
        tell_line_by_line("memory plan\none\ntwo")
    assert [record.getMessage() for record in caplog.records] == ["model: memory plan", "model: one", "model: two"]
