"""The reference is what the code says, and every error that a caller can meet is in it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripts import reference
from starlette.requests import Request

from hidream_edit.api import errors, problems, wire, wire_input
from hidream_edit.api.app import ROUTES
from hidream_edit.api.auth import NotAllowed, NotAuthenticated
from hidream_edit.domain.errors import (
    BlobNotFound,
    BlobsUnavailable,
    CallerLimited,
    JobFinished,
    JobNotFound,
    QueueFull,
    StorageQuotaReached,
    StoreUnavailable,
)
from hidream_edit.domain.job import Failure
from hidream_edit.telemetry.meters import Meters

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "hidream_edit"
SENT = problems.OF_INPUT | problems.OF_PICTURES | problems.OF_REQUESTS | problems.OF_CALLS


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference.REFERENCE, tmp_path / "reference"))


def change(page: Path, old: str, new: str) -> None:
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new))


def test_the_reference_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    code = reference.main(["--check"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("settings.md", "| `--port` | `8000` |", "| `--port` | `9000` |"),
        ("cli.md", "| `--keep-aspect` |", "| `--keeps-aspect` |"),
        ("routes.md", "`GET /health/ready`", "`GET /ready`"),
        ("fields.md", "| 1 to 50 |", "| 1 to 60 |"),
        ("errors.md", "| `internal_error` | 503 |", "| `internal_error` | 500 |"),
        ("exit-codes.md", "| 130 | `STOPPED` |", "| 131 | `STOPPED` |"),
    ],
)
def test_a_changed_page_fails_the_check_and_is_written_anew(
    pages: Path, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str
) -> None:
    page = pages / name
    before = page.read_text()
    change(page, old, new)
    assert reference.main(["--check"], pages) == 1
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("-|") and new in line for line in printed)
    assert any(line.startswith("+|") and old in line for line in printed)
    assert page.read_text() != before
    assert reference.main([], pages) == 0
    assert page.read_text() == before


def test_words_around_the_tables_stay(pages: Path) -> None:
    change(pages / "settings.md", "## S3\n", "## S3\n\nA remark.\n")
    assert reference.main(["--check"], pages) == 0
    change(pages / "settings.md", "Amazon's", "nobody's")
    assert reference.main([], pages) == 0
    assert "## S3\n\nA remark.\n" in (pages / "settings.md").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<!-- generated: s3 -->", ""),
        ("<!-- generated: s3 -->", "<!-- generated: s4 -->"),
        ("<!-- generated: s3 -->", "<!-- generated: model -->"),
        ("<!-- end -->\n\n## S3", "\n\n## S3"),
    ],
)
def test_a_mark_that_is_wrong_is_told_and_nothing_is_written(
    pages: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    change(pages / "settings.md", old, new)
    before = (pages / "settings.md").read_text()
    assert reference.main([], pages) == 1
    assert "settings.md: each of these" in capsys.readouterr().out
    assert (pages / "settings.md").read_text() == before


def test_a_page_that_is_not_there_is_told(pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pages / "cli.md").unlink()
    assert reference.main(["--check"], pages) == 1
    assert "cli.md is not there" in capsys.readouterr().out


def test_a_changed_meaning_in_the_code_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(problems.OF_CALLS, "bad_request", problems.Problem((418,), "a teapot", "pour"))
    assert reference.main(["--check"]) == 1


def test_every_route_is_there() -> None:
    text = (reference.REFERENCE / "routes.md").read_text()
    for route in ROUTES:
        path = re.sub(r"\{(\w+):int\}", r"{\1}", route.path).replace("/{owner}/{app}", "/fal-ai/hidream-e1-full")
        # The same by another spelling: a slash at the end, and requests without the prefix of the queue.
        shown = {path, path.removesuffix("/"), f"{path}/", f"/queue{path.removesuffix('/')}"}
        assert any(f"{one}`" in text for one in shown), path


HOSTILE = (None, "x", "1.5", 1.5, -1, 99, [], float("nan"), "9" * 5000, "maybe", 2**70)


def refused(body: dict[str, Any]) -> list[str]:
    try:
        wire_input.read_input(body)
    except wire_input.InputRefused as told:
        return [str(detail["type"]) for detail in told.details]
    return []


def test_every_type_of_wrong_input_is_there_and_can_happen() -> None:
    seen = set(refused({}))
    for name in wire_input.WireInput.model_fields:
        for value in HOSTILE:
            seen.update(refused({"image_url": "x", name: value}))
    assert seen | {"json_invalid", "dict_type"} == set(problems.OF_INPUT)


def test_every_type_that_the_code_names_is_there() -> None:
    spellings = (
        r'\bkind(?:: str)?\s?=\s?"(\w+)"', r'\bFailure\(\s*"(\w+)"', r'"error_type": "(\w+)"',
        r'\bbody_refused\(.*"(\w+)"\)', r'\b_request_error\(.*?, "(\w+)"[,)]',
    )  # fmt: skip
    folders = ("domain", "engine", "pictures", "outgoing", "blobs", "runner", "queue", "api")
    text = "\n".join(file.read_text() for folder in folders for file in sorted((PACKAGE / folder).rglob("*.py")))
    found = {kind for spelling in spellings for kind in re.findall(spelling, text)}
    assert len(found) >= 15
    spans = {"server", "consumer", "producer"}  # kinds of spans, which look the same
    assert found - SENT.keys() - spans - {"unprocessable_entity"} == set()


@pytest.mark.parametrize("kind", sorted(problems.OF_PICTURES | problems.OF_REQUESTS))
def test_a_failed_request_has_the_status_that_is_written_there(kind: str) -> None:
    is_cancelled = kind == wire.CANCELLED_BODY["error_type"]
    status = wire.CANCELLED_STATUS if is_cancelled else wire.failure_status(Failure(kind, ""))
    assert SENT[kind].statuses == (status,)


@pytest.mark.parametrize(
    "error",
    [
        errors.BadRequest("no"),
        errors.BadRequest("no", status=413),
        QueueFull(2, 1),
        CallerLimited("no", 1.0),
        StorageQuotaReached(1),
        BlobsUnavailable("no"),
        StoreUnavailable("no"),
        NotAuthenticated("no"),
        NotAllowed("no"),
        JobNotFound("x"),
        JobFinished("x"),
        BlobNotFound("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_refusal_is_there_with_its_status(error: Exception) -> None:
    app = SimpleNamespace(state=SimpleNamespace(services=SimpleNamespace(meters=Meters())))
    answer = errors.answer(Request({"type": "http", "app": app, "path": "/", "headers": []}), error)
    body = json.loads(bytes(answer.body))
    if "error_type" in body:
        assert answer.status_code in problems.OF_CALLS[body["error_type"]].statuses
        return
    (name, value), *_ = body.items()
    for shape, problem in problems.WITHOUT_TYPE.items():
        (wanted, words), *_ = json.loads(shape.strip("`").replace(": …}", ': "…"}')).items()
        spelled = ".*".join(map(re.escape, words.split("…")))
        if wanted == name and re.fullmatch(spelled, value) and answer.status_code in problem.statuses:
            return
    raise AssertionError((answer.status_code, body))
