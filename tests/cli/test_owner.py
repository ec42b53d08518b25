"""What the owner of a server asks it by ``keys`` and ``requests``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hidream_edit.cli.main import app
from hidream_edit.domain.deliveries import DeliveryAttempt
from hidream_edit.domain.job import Failure, NewEvent, NewJob
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.wiring.exit_codes import ExitCode


def asked(folder: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--data", str(folder)])
    return result.exit_code, result.stdout + result.stderr


def test_the_log_of_keys_says_what_was_done_newest_first(tmp_path: Path) -> None:
    _, made = asked(tmp_path, "keys", "create", "phone")
    key_id = made.split(":")[0].split()[-1]
    assert asked(tmp_path, "keys", "revoke", key_id)[0] == ExitCode.OK
    code, log = asked(tmp_path, "keys", "log")
    assert code == ExitCode.OK
    assert [line.split("  ", 2)[1:] for line in log.splitlines()] == [
        [key_id, "revoked"],
        [key_id, "created for phone, scope use"],
    ]
    code, said = asked(tmp_path, "keys", "revoke", key_id)
    assert (code, said) == (ExitCode.USAGE, f"error: there is no valid key {key_id}\n")


@pytest.fixture
def failed_with_a_webhook(tmp_path: Path) -> Path:
    with closing(SqliteStore(tmp_path / "jobs.sqlite3")) as store:
        store.submit(NewJob(id="a", caller="c", input={}, webhook_url="https://x"), now=0)
        job = store.claim(runner_id="r", now=1, lease_seconds=9)
        assert job is not None
        failure = Failure("image_load_error", "it is no picture", "image_url")
        store.fail("a", str(job.lease_token), failure, now=2, events=[NewEvent(1, "step 1 of 2")])
        for status, error in ((None, "ConnectError"), (200, None)):
            delivery = store.claim_delivery(now=9, lease_seconds=0)
            assert delivery is not None
            store.record_attempt(delivery, DeliveryAttempt(9, 0.25, status, error), next_at=9 if error else None)
    return tmp_path


def test_a_request_is_shown_with_its_failure_its_log_and_the_calls_of_its_webhook(failed_with_a_webhook: Path) -> None:
    code, said = asked(failed_with_a_webhook, "requests", "show", "a")
    assert code == ExitCode.OK
    lines = said.splitlines()
    assert lines[:2] == ["a  failed  attempt 1 of 3  caller c", "failed: image_load_error: it is no picture"]
    assert [line.split("  ", 1)[1] for line in lines[2:]] == [
        "INFO  step 1 of 2",
        "webhook, attempt 1: ConnectError after 0.2 s",
        "webhook, attempt 2: answered 200 after 0.2 s",
    ]


def test_an_unknown_request_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    code, said = asked(tmp_path, "requests", "show", "nobody")
    assert code != ExitCode.OK
    assert said.startswith("error: ")
    assert "nobody" in said
