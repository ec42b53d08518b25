"""A store, blobs and a runner in one folder, for tests of the runner's parts."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from hidream_edit.blobs.folder import FolderObjects
from hidream_edit.blobs.store import Blobs
from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.job import Job, NewJob
from hidream_edit.domain.safety import SafetyChecker
from hidream_edit.pictures.sources import from_data_uri
from hidream_edit.queue.sql_blobs import SqlBlobRows
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.runner.runner import Runner, RunnerLimits
from hidream_edit.testing import NullEngine


def data_uri(colour: tuple[int, int, int] = (200, 100, 0)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class Bench:
    """A store, blobs and a runner in one folder."""

    def __init__(
        self,
        folder: Path,
        engine: NullEngine | None = None,
        safety: SafetyChecker | None = None,
        limits: RunnerLimits | None = None,
    ) -> None:
        self.store = SqliteStore(folder / "jobs.sqlite3", synchronous="normal")
        self.blobs = Blobs(FolderObjects(folder / "blobs"), SqlBlobRows(self.store))
        self.runner = Runner(
            self.store,
            self.blobs,
            engine or NullEngine(),
            from_data_uri,
            safety=safety,
            limits=limits or RunnerLimits(look_seconds=0.05),
        )

    def submit(self, name: str = "a", url: str | None = None, instruction: str = "x", **fields: Any) -> None:
        previews = bool(fields.pop("wants_previews", False))
        edit_input = EditInput(edit_instruction=instruction, seed=5, num_images=fields.pop("num_images", None))
        request = EditRequest(url or data_uri(), edit_input, **fields)
        self.store.submit(
            NewJob(id=name, caller="c", input=request.as_json(), wants_previews=previews), now=time.time()
        )

    def work(self) -> Job:
        job = self.store.claim(runner_id="r", now=time.time(), lease_seconds=30)
        assert job is not None
        self.runner.work_on(job)
        return self.store.get(job.id)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()
