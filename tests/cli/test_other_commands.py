"""``models``, ``describe`` and what all commands share."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from hidream_edit.cli import main
from hidream_edit.cli.main import app, extra_with
from hidream_edit.version import __version__
from hidream_edit.wiring.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"hidream-edit {__version__}\n"


def test_without_a_command_the_help_names_them_all() -> None:
    text = CliRunner().invoke(app, []).output
    assert all(name in text for name in ("edit", "models", "describe"))


def test_models_lists_what_is_there_and_what_each_needs() -> None:
    models = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert [model["name"] for model in models] == ["mini", "HiDream-E1-Full", "HiDream-I1-Full + E1 adapter"]
    assert "62 GB" in CliRunner().invoke(app, ["models"]).stdout


def test_describe_without_an_address_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIDREAM_EDIT_DESCRIBER_URL", raising=False)
    result = CliRunner().invoke(app, ["describe", "photo.jpg", "make it night"])
    assert result.exit_code == ExitCode.USAGE
    assert "HIDREAM_EDIT_DESCRIBER_URL" in result.stderr


def test_describe_falls_back_to_the_plain_instruction(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    words = ["describe", str(tmp_path / "photo.png"), "make it night", "--describer-url", "http://127.0.0.1:9/v1"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(result.stdout) == {"source": "", "instruction": "make it night", "target": ""}
    assert "the plain instruction stays" in result.stderr
    assert "make it night" in CliRunner().invoke(app, words).stdout


def test_the_documented_exit_codes_are_the_real_ones() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", (ROOT / "docs/reference/exit-codes.md").read_text(), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {code.name: code.value for code in ExitCode}


def test_the_documented_settings_are_the_real_ones() -> None:
    from hidream_edit.settings import (
        DescriberSettings,
        LogSettings,
        ModelSettings,
        NullEngineSettings,
        RunnerSettings,
        S3Settings,
        SafetySettings,
        ServerSettings,
    )

    documented = set(
        re.findall(r"^\| `(HIDREAM_EDIT_\w+)` \|", (ROOT / "docs/reference/settings.md").read_text(), re.MULTILINE)
    )
    real = {
        (settings.model_config["env_prefix"] + name).upper()
        for settings in (
            ModelSettings,
            DescriberSettings,
            LogSettings,
            NullEngineSettings,
            RunnerSettings,
            S3Settings,
            SafetySettings,
            ServerSettings,
        )
        for name in settings.model_fields
    }
    assert documented == real


@pytest.mark.parametrize("code", ["import hidream_edit", "from hidream_edit.cli.main import app"])
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    heavy = "[name for name in ('torch', 'transformers', 'diffusers', 'numpy', 'PIL', 'httpx') if name in sys.modules]"
    printed = subprocess.check_output([sys.executable, "-c", f"import sys; {code}; print({heavy})"], text=True)
    assert printed == "[]\n"


def test_ctrl_c_stops_at_the_next_step_says_so_and_keeps_what_was_finished(tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    command = [sys.executable, "-W", "ignore", "-m", "hidream_edit", "edit", "photo.png", "make it night"]
    command += ["--model", str(tiny_folder), "--steps", "50", "--num-images", "4", "--device", "cpu"]
    running = subprocess.Popen(
        [*command, "--output", "out/", "--save-steps", "steps", "--seed", "1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "photo-edited-1.jpg").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, printed = running.communicate(timeout=60)
    assert running.returncode == ExitCode.STOPPED
    assert "stopped; what was finished before is kept" in printed
    with Image.open(tmp_path / "out" / "photo-edited-1.jpg") as finished:
        assert finished.size == (64, 64)
    assert not (tmp_path / "out" / "photo-edited-4.jpg").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("module", "extra"),
    [("psutil", "engine"), ("torch.nn", "engine"), ("msgpack", "serve"), ("obstore", "s3"), ("no_such_module", None)],
)
def test_what_is_not_installed_is_named_by_the_extra_that_brings_it(module: str, extra: str | None) -> None:
    assert extra_with(module) == extra


def run_with(monkeypatch: pytest.MonkeyPatch, raised: BaseException) -> int:
    """What `run` ends with when a command raises."""

    def broken() -> None:
        raise raised

    monkeypatch.setattr(main, "app", broken)
    with pytest.raises(SystemExit) as ended:
        main.run()
    return int(str(ended.value.code))


def test_ctrl_c_outside_of_an_edit_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, KeyboardInterrupt()) == ExitCode.STOPPED
    assert capsys.readouterr().err == "stopped\n"


def test_a_command_whose_extra_is_not_installed_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, ModuleNotFoundError(name="starlette.routing")) == ExitCode.USAGE
    assert capsys.readouterr().err.endswith("pip install 'hidream-edit[serve]'\n")


def test_a_module_that_no_extra_brings_is_a_fault_and_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError):
        run_with(monkeypatch, ModuleNotFoundError(name="no_such_module"))
