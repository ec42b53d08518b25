"""Log lines for programs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from typing import Any

from hidream_edit.cli.terminal import Terminal
from hidream_edit.telemetry.logs import JsonLines, about


def line(message: str, *words: object, **fields: Any) -> dict[str, Any]:
    record = logging.getLogger("hidream_edit.x").makeRecord(
        "hidream_edit.x", logging.WARNING, "file.py", 1, message, words, fields.pop("exc_info", None), extra=fields
    )
    text = JsonLines().format(record)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_line_says_when_how_loud_who_and_what() -> None:
    said = line("%s of\n%s", "one", "two")
    assert said.pop("time").endswith("+00:00")
    assert said == {"level": "warning", "logger": "hidream_edit.x", "message": "one of\ntwo"}


def test_a_line_names_what_it_is_about_from_the_call_or_from_around_it() -> None:
    assert line("rescued", job_id="j", state="queued")["job_id"] == "j"
    with about(request_id="r"), about(job_id="k"):
        assert {"request_id": "r", "job_id": "k"}.items() <= line("x").items()
    assert "request_id" not in line("x")


def test_threads_do_not_see_what_others_are_about() -> None:
    seen: list[dict[str, Any]] = []
    with about(job_id="mine"):
        other = threading.Thread(target=lambda: seen.append(line("x")))
        other.start()
        other.join()
    assert "job_id" not in seen[0]


def test_an_error_brings_its_traceback_in_the_same_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        said = line("failed", exc_info=(ValueError, error, error.__traceback__))
    assert "ValueError: broken" in said["traceback"]


def test_what_a_person_would_be_told_becomes_a_line_too(caplog: Any, capsys: Any) -> None:
    terminal = Terminal(as_log=True)
    with caplog.at_level(logging.INFO, "hidream_edit"):
        terminal.say("serves at http://127.0.0.1:1")
        terminal.say("")
        terminal.fail("no")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "serves at http://127.0.0.1:1"),
        ("ERROR", "no"),
    ]
    assert capsys.readouterr() == ("", "")


UNCAUGHT = """
import threading
from hidream_edit.telemetry.logs import set_up
set_up("json", "api")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise LookupError("the end")
"""


def test_what_nobody_caught_is_a_line_too_in_any_thread() -> None:
    ended = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(one["level"], one["message"]) for one in lines] == [("critical", "uncaught")] * 2
    assert "ZeroDivisionError" in str(lines[0])
    assert "LookupError: the end" in str(lines[1])
    assert ended.returncode == 1
