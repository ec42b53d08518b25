"""What is promised when processes die, stop, or lose their database; with real processes."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.acceptance.conftest import APP, SECONDS_MAX, Process, wait_for
from tests.acceptance.test_serve import an_input, status
from tests.api.conftest import picture_bytes
from tests.support.postgres import PrivateServer

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.job import Job, JobState, NewJob
from hidream_edit.queue.sqlite.store import SqliteStore

ROOT = Path(__file__).parents[2]
Start = Callable[..., Process]
SHORT_LEASE = {"HIDREAM_EDIT_SERVER_LEASE_SECONDS": "1", "HIDREAM_EDIT_SERVER_HEARTBEAT_SECONDS": "0.2"}


class Steps:
    """One job in a folder, and runners that die at a step of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SqliteStore(folder / "jobs.sqlite3")
        uri = "data:image/png;base64," + base64.b64encode(picture_bytes()).decode()
        request = EditRequest(uri, EditInput(edit_instruction="x", seed=5), output_format="png")
        new = NewJob(id="a", caller="c", input=request.as_json(), webhook_url="https://x", attempts_max=3)
        self.store.submit(new, now=time.time())

    def work(self, *die_at: int) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "tests.support.crashing_runner", str(self.folder)]
        done = subprocess.run([*command, *map(str, die_at)], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == (-signal.SIGKILL if die_at else 0), done.stderr
        return done.stdout

    def picture(self, job: Job) -> bytes:
        assert job.output is not None
        (image,) = job.output["images"]
        (file,) = self.folder.glob(f"blobs/*/{image['blob']}")
        return file.read_bytes().partition(b"\n")[2]


def test_a_job_whose_runner_dies_at_any_of_its_steps_ends_once_with_the_same_picture(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = Steps(tmp_path / "whole")
    steps = int(whole.work())
    assert steps > 12
    picture = whole.picture(whole.store.get("a"))
    whole.store.close()
    for step in range(1, steps + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        job = Steps(folder)
        job.work(step)
        died_in = job.store.get("a").state
        later = time.time() + 60
        job.store.rescue(now=later)
        if died_in is not JobState.COMPLETED:
            job.work()
        ended = job.store.get("a")
        assert ended.state is JobState.COMPLETED, f"died at {step} of {steps}"
        assert ended.attempt == (1 if died_in in (JobState.QUEUED, JobState.COMPLETED) else 2)
        assert job.picture(ended) == picture
        assert job.store.claim_delivery(now=later, lease_seconds=9) is not None  # its caller is told once
        assert job.store.claim_delivery(now=later, lease_seconds=9) is None
        job.store.close()


def test_a_runner_that_stood_still_past_its_lease_cannot_write_any_more(start: Start) -> None:
    server = start("--no-runner", **SHORT_LEASE)
    command = [sys.executable, "-m", "hidream_edit", "runner", "--model", "null", "--data", str(server.folder)]
    environment = os.environ | SHORT_LEASE | {"HIDREAM_EDIT_NULL_SECONDS_PER_STEP": "0.05"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    second = None
    try:
        server.wait_until_ready()
        request_id = server.client.post(f"/queue{APP}", json=an_input(steps=20)).json()["request_id"]
        wait_for(lambda: status(server, request_id) == "IN_PROGRESS")
        first.send_signal(signal.SIGSTOP)
        second = subprocess.Popen(command, env=environment)
        wait_for(lambda: status(server, request_id) == "COMPLETED")
        result = server.client.get(f"{APP}/requests/{request_id}").json()
        first.send_signal(signal.SIGCONT)
        time.sleep(1.5)  # it goes on with its steps, and tries to write
        log = server.client.get(f"{APP}/requests/{request_id}/status?logs=1").json()["logs"]
        assert server.client.get(f"{APP}/requests/{request_id}").json() == result
        first.terminate()
        assert "lost the lease" in first.communicate(timeout=20)[1]
        told = [entry["message"] for entry in log]
        lost = told.index("the runner was lost; trying again")
        assert [text for text in told[lost:] if text.startswith("step")] == [f"step {n} of 20" for n in range(1, 21)]
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
        if first.stderr is not None:
            first.stderr.close()


def test_an_edit_that_is_done_again_after_a_crash_gives_the_same_bytes(start: Start) -> None:
    server = start("--model", "mini", **SHORT_LEASE)
    server.wait_until_ready()
    edit = {**an_input(steps=40, instruction="make it warmer"), "output_format": "png", "guidance_scale": 2}
    interrupted = server.client.post(f"/queue{APP}", json=edit).json()["request_id"]

    def steps_told() -> int:
        logs = server.client.get(f"{APP}/requests/{interrupted}/status?logs=1").json().get("logs") or []
        return sum(entry["message"].startswith("step") for entry in logs)

    wait_for(lambda: steps_told() >= 3)
    os.kill(server.runner_pid(), signal.SIGKILL)
    # A runner starts with torch and walks 40 steps: on a core that others share too, that takes more than a minute.
    wait_for(lambda: status(server, interrupted) == "COMPLETED", seconds=4 * SECONDS_MAX)
    log = server.client.get(f"{APP}/requests/{interrupted}/status?logs=1").json()["logs"]
    assert any("the runner was lost" in entry["message"] for entry in log)
    first = server.client.get(f"{APP}/requests/{interrupted}").json()
    again = server.client.post(APP, json={**edit, "seed": first["seed"]}).json()
    pictures = [server.client.get(answer["images"][0]["url"]).content for answer in (first, again)]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_a_database_that_goes_away_under_load_loses_nothing_that_was_acknowledged(start: Start, how: str) -> None:
    database = PrivateServer()
    try:
        server = start("--database", database.url, **SHORT_LEASE, HIDREAM_EDIT_NULL_SECONDS_PER_STEP="0.02")
        server.wait_until_ready()
        acknowledged: list[str] = []
        answers: list[int] = []
        done = threading.Event()

        def submit() -> None:
            with httpx.Client(base_url=server.url, timeout=60) as client:
                while not done.is_set():
                    response = client.post(f"/queue{APP}", json=an_input())
                    answers.append(response.status_code)
                    if response.status_code == 200:
                        acknowledged.append(response.json()["request_id"])
                    time.sleep(0.02)

        clients = [threading.Thread(target=submit) for _ in range(3)]
        for client in clients:
            client.start()
        wait_for(lambda: len(acknowledged) > 10)
        getattr(database, how)()
        time.sleep(1)
        database.start()
        before = len(acknowledged)
        wait_for(lambda: len(acknowledged) > before + 10)
        done.set()
        for client in clients:
            client.join()
        assert set(answers) <= {200, 503}
        for request_id in acknowledged:
            wait_for(lambda request_id=request_id: status(server, request_id) == "COMPLETED")  # type: ignore[misc]
            answer = server.client.get(f"{APP}/requests/{request_id}")
            assert answer.status_code == 200, answer.text
    finally:
        database.close()


def test_a_submit_whose_answer_was_lost_can_be_repeated_and_gives_one_job(start: Start) -> None:
    server = start("--no-runner")
    headers = {"x-fal-idempotency-key": "once"}
    answers: list[Any] = []

    def submit() -> None:
        try:
            answers.append(httpx.post(f"{server.url}/queue{APP}", json=an_input(), headers=headers, timeout=30))
        except httpx.HTTPError as lost:
            answers.append(lost)

    clients = [threading.Thread(target=submit) for _ in range(8)]
    for client in clients:
        client.start()
    server.signal(signal.SIGKILL)
    for client in clients:
        client.join()
    again = start("--no-runner")
    repeated = again.client.post(f"/queue{APP}", json=an_input(), headers=headers).json()["request_id"]
    told = {answer.json()["request_id"] for answer in answers if isinstance(answer, httpx.Response)}
    assert told <= {repeated}
    listed = subprocess.check_output(
        [sys.executable, "-m", "hidream_edit", "requests", "list", "--data", str(again.folder)], text=True
    )
    assert len(listed.splitlines()) == 1
