"""``doctor``: what it finds, and that it changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from tests.support import newer_program
from tests.support.postgres import new_database
from tests.support.s3 import s3_server
from typer.testing import CliRunner

from hidream_edit.cli.main import app
from hidream_edit.engine import devices
from hidream_edit.engine.known_models import BUNDLED
from hidream_edit.queue.postgres.store import MIGRATIONS, PostgresStore
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.wiring import doctor
from hidream_edit.wiring.exit_codes import ExitCode

CHECKS = ["model", "device", "memory", "disk", "database", "clock", "blobs"]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def examined(folder: Path, *options: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and verdict and words by check."""
    result = CliRunner().invoke(app, ["doctor", "--data", str(folder), *options])
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    return result.exit_code, {check: (verdict, words) for verdict, check, words in lines}


def test_a_machine_that_is_fine_gets_one_ok_per_check(tmp_path: Path) -> None:
    code, found = examined(tmp_path / "data", "--device", "cpu")
    assert list(found) == CHECKS
    assert {verdict for verdict, _ in found.values()} <= {"ok", "warning"}
    assert "the bundled mini model" in found["model"][1]
    assert code == ExitCode.OK


@pytest.mark.parametrize(
    ("native", "dtype", "verdict", "words"),
    [
        (True, "float32", "ok", "--dtype bfloat16 would be faster"),
        (False, "float32", "ok", "cpu, float32"),
        (False, "bfloat16", "warning", "float32 is faster"),
        (True, "bfloat16", "ok", "cpu, bfloat16"),
    ],
)
def test_it_knows_whether_bfloat16_pays_on_this_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, dtype: str, verdict: str, words: str
) -> None:
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda _: native)
    monkeypatch.setenv("HIDREAM_EDIT_DTYPE", dtype)
    found = examined(tmp_path / "data", "--device", "cpu")[1]["device"]
    assert found[0] == verdict
    assert words in found[1]


def test_it_makes_no_database_and_leaves_no_object(tmp_path: Path) -> None:
    examined(tmp_path / "data", "--model", "null")
    assert [file for file in (tmp_path / "data").rglob("*") if file.is_file()] == []


def test_a_database_of_this_version_is_fine_and_one_of_an_older_version_is_a_warning(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "jobs.sqlite3").close()
    assert examined(tmp_path, "--model", "null")[1]["database"][0] == "ok"
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    code, found = examined(tmp_path, "--model", "null")
    assert found["database"][0] == "warning"
    assert "hidream-edit migrate" in found["database"][1]
    assert "stop all programs of the older version first" in found["database"][1]
    assert code == ExitCode.OK


@pytest.mark.parametrize("content", [b"this is no database, whatever its name says" * 100, None])
def test_a_file_that_is_no_database_or_too_new_a_one_is_a_problem(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "jobs.sqlite3"
    if content is None:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA user_version = 999")
            connection.execute("CREATE TABLE compatibility (oldest INTEGER)")
            connection.execute("INSERT INTO compatibility VALUES (998)")
        connection.close()
    else:
        file.write_bytes(content)
    code, found = examined(tmp_path, "--model", "null")
    assert found["database"][0] == "problem"
    assert content is not None or "for programs that know 998" in found["database"][1]
    assert code == ExitCode.UNHEALTHY
    assert found["blobs"][0] == "ok"  # the other checks go on


def test_a_database_of_a_newer_version_that_this_one_can_work_with_is_a_warning(tmp_path: Path) -> None:
    newer_program.on_sqlite(tmp_path / "jobs.sqlite3").close()
    url = new_database()
    newer_program.on_postgres(url).close()
    for options in ([], ["--database", url]):
        code, found = examined(tmp_path, "--model", "null", *options)
        assert found["database"][0] == "warning"
        assert "made by a newer version: this version can work with it" in found["database"][1]
        assert code == ExitCode.OK


def test_postgresql_and_its_clock_are_looked_at(tmp_path: Path) -> None:
    url = new_database()
    newest = MIGRATIONS[-1].number
    _, found = examined(tmp_path, "--model", "null", "--database", url)
    assert found["database"] == ("ok", f"PostgreSQL is empty; the first start makes schema {newest}")
    PostgresStore(url).close()
    _, found = examined(tmp_path, "--model", "null", "--database", url)
    assert found["database"][0] == found["clock"][0] == "ok"
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM schema_versions WHERE version > 5")
    assert examined(tmp_path, "--model", "null", "--database", url)[1]["database"][0] == "warning"


@pytest.mark.parametrize(("hours", "verdict"), [(5 / 3600, "warning"), (1, "problem"), (-1, "problem")])
def test_a_clock_that_is_apart_from_the_databases_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, verdict: str
) -> None:
    real = doctor.time.time
    url = new_database()
    monkeypatch.setattr(doctor.time, "time", lambda: real() + hours * 3600)
    assert examined(tmp_path, "--model", "null", "--database", url)[1]["clock"][0] == verdict


def test_a_database_that_does_not_answer_is_a_problem_told_without_its_password(tmp_path: Path) -> None:
    word = "of-the-test"
    code, found = examined(tmp_path, "--model", "null", "--database", f"postgresql://u:{word}@127.0.0.1:9/x")
    assert found["database"][0] == found["clock"][0] == "problem"
    assert word not in str(found)
    assert code == ExitCode.UNHEALTHY


def test_a_bucket_is_written_read_and_deleted_or_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_server().new_bucket()
    for name, value in (
        ("ENDPOINT", bucket.endpoint),
        ("REGION", bucket.region),
        ("ACCESS_KEY_ID", bucket.access_key_id),
        ("SECRET_ACCESS_KEY", bucket.secret_access_key),
    ):
        monkeypatch.setenv(f"HIDREAM_EDIT_S3_{name}", str(value))
    _, found = examined(tmp_path, "--model", "null", "--blobs", f"s3://{bucket.name}")
    assert found["blobs"][0] == "ok"
    code, found = examined(tmp_path, "--model", "null", "--blobs", "s3://no-such-bucket")
    assert found["blobs"][0] == "problem"
    assert code == ExitCode.UNHEALTHY
    _, found = examined(tmp_path, "--model", "null", "--blobs", "https://bucket")
    assert "s3://bucket/prefix" in found["blobs"][1]


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the place of the folder")
    code, found = examined(tmp_path / "data", "--model", "null")
    assert found["blobs"][0] == "problem"
    assert code == ExitCode.UNHEALTHY


@pytest.mark.parametrize(("free", "verdict"), [(2**20, "problem"), (2**30, "warning"), (2**40, "ok")])
def test_the_room_on_the_disk_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(2**41, 0, free))
    assert examined(tmp_path, "--model", "null")[1]["disk"][0] == verdict


def test_a_model_that_is_not_whole_not_here_or_not_at_all_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    copied = tmp_path / "model"
    shutil.copytree(BUNDLED, copied, ignore=shutil.ignore_patterns("vae"))
    code, found = examined(tmp_path, "--model", str(copied), "--device", "cpu")
    assert found["model"] == ("problem", f"{copied} lacks vae: download the whole model again")
    assert code == ExitCode.UNHEALTHY
    assert examined(tmp_path, "--model", str(tmp_path / "nowhere"), "--device", "cpu")[1]["model"][0] == "problem"
    _, found = examined(tmp_path, "--model", "HiDream-ai/HiDream-E1-Full", "--device", "cpu")
    assert found["model"][0] == "warning"
    assert "hf download" in found["model"][1]
    assert found["device"][0] == "warning"  # a large model on a CPU
    assert examined(tmp_path, "--adapter", "nowhere.safetensors", "--device", "cpu")[1]["model"][0] == "problem"


def test_a_device_that_is_not_there_is_a_problem_of_device_and_memory_only(tmp_path: Path) -> None:
    code, found = examined(tmp_path, "--device", "cuda:99")
    assert [check for check, (verdict, _) in found.items() if verdict == "problem"] == ["device", "memory"]
    assert code == ExitCode.UNHEALTHY


def test_a_machine_without_the_engine_can_still_serve_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hidream_edit.engine.devices", None)
    code, found = examined(tmp_path)
    assert found["device"][0] == found["memory"][0] == "warning"
    assert code == ExitCode.OK
