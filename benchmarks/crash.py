"""kill -9 of runners and servers at random moments, while clients submit: is anything lost, ended twice, or stuck?

    make crash                                   200 kills over 1,000 jobs
    python benchmarks/crash.py --jobs 60 --kills 12 --database postgresql://…

Prints one JSON object and exits with 1 when a promise is broken. The seed is printed; the same seed kills in the same
order, though never at the very same moments.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.job import Job, JobState
from hidream_edit.settings import ServerSettings
from hidream_edit.wiring.server_parts import open_parts

APP = "/fal-ai/hidream-e1-full"
PORT = 8973
STEP_SECONDS, STEPS, LEASE_SECONDS, HEARTBEAT_SECONDS = 0.01, 8, 1.0, 0.2
RUNNERS, CLIENTS = 2, 4


class Fleet:
    """One server without a runner, and runners of their own, all of which can be killed and started again."""

    def __init__(self, data: Path, database: str | None) -> None:
        shared = ["--data", str(data)] + (["--database", database] if database else [])
        program = [sys.executable, "-W", "ignore", "-m", "hidream_edit"]
        runner = [*program, "runner", "--model", "null", *shared]
        self._commands = [[*program, "serve", "--no-runner", "--port", str(PORT), *shared], *[runner] * RUNNERS]
        self._environment = os.environ | {
            "HIDREAM_EDIT_NULL_SECONDS_PER_STEP": str(STEP_SECONDS),
            "HIDREAM_EDIT_SERVER_LEASE_SECONDS": str(LEASE_SECONDS),
            "HIDREAM_EDIT_SERVER_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        }
        self._processes = [self._start(command) for command in self._commands]

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE
        )

    def kill(self, number: int) -> None:
        """kill -9, and a new process in its place."""
        self._processes[number].send_signal(signal.SIGKILL)
        self._processes[number].wait()
        self._processes[number] = self._start(self._commands[number])

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class Clients:
    """Threads that submit until enough jobs were acknowledged; what was not acknowledged does not count."""

    def __init__(self, count: int) -> None:
        self.acknowledged: list[str] = []
        self.refused = 0
        self._count, self._lock = count, threading.Lock()
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        self._input = {"image_url": uri, "edit_instruction": "x", "num_inference_steps": STEPS, "seed": 1}
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=10) as client:
            while True:
                with self._lock:
                    if len(self.acknowledged) >= self._count:
                        return
                try:
                    response = client.post(f"/queue{APP}", json=self._input)
                    response.raise_for_status()
                except httpx.HTTPError:
                    self.refused += 1
                    time.sleep(0.1)
                    continue
                with self._lock:
                    self.acknowledged.append(response.json()["request_id"])
                time.sleep(0.02)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def run(jobs: int, kills: int, seed: int, database: str | None) -> dict[str, Any]:
    """Do it, and count what broke."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        settings = ServerSettings(data=str(data), database=database)  # type: ignore[arg-type]
        parts = open_parts(settings)
        fleet = Fleet(data, database)
        clients = Clients(jobs)
        began, ends, ended_twice, revision = time.monotonic(), {}, 0, 0
        killed = {"server": 0, "runner": 0}

        def follow() -> None:
            nonlocal revision, ended_twice
            while changed := parts.store.changed_since(revision):
                revision = changed[-1].revision
                for job in changed:
                    if job.id in ends and ends[job.id] != _end_of(job):
                        ended_twice += 1
                    elif job.state.is_final:
                        ends[job.id] = _end_of(job)

        while sum(killed.values()) < kills:
            time.sleep(rng.uniform(0.05, 0.6))
            number = rng.choices(range(RUNNERS + 1), [1, *[2] * RUNNERS])[0]
            fleet.kill(number)
            killed["runner" if number else "server"] += 1
            follow()
        clients.join()
        deadline = time.monotonic() + 60 + jobs * STEPS * STEP_SECONDS
        while len(ends) < len(clients.acknowledged) and time.monotonic() < deadline:
            time.sleep(0.1)
            follow()
        stored = [parts.store.get(job_id) for job_id in clients.acknowledged if _is_there(parts.store, job_id)]
        report = {
            "store": "postgres" if database else "sqlite",
            "seed": seed,
            "acknowledged": len(clients.acknowledged),
            "submits that were not acknowledged": clients.refused,
            "kills": killed,
            "lost": len(clients.acknowledged) - len(stored),
            "ended twice": ended_twice,
            "stuck": sum(not job.state.is_final for job in stored),
            "completed": sum(job.state is JobState.COMPLETED for job in stored),
            "failed, all attempts used up": sum(job.state is JobState.FAILED for job in stored),
            "second attempts": sum(job.attempt > 1 for job in stored),
            "seconds": round(time.monotonic() - began, 1),
        }
        fleet.close()
        parts.close()
    return report


def _end_of(job: Job) -> tuple[str, str]:
    return job.state.value, json.dumps(job.output)


def _is_there(store: Any, job_id: str) -> bool:
    try:
        store.get(job_id)
    except JobNotFound:
        return False
    return True


def main() -> None:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--database", help="postgresql:// address; SQLite without it")
    options = parser.parse_args()
    report = run(options.jobs, options.kills, options.seed, options.database)
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["lost"] or report["ended twice"] or report["stuck"]))


if __name__ == "__main__":
    main()
