"""A server under mixed load for a while, with a runner that is killed now and then: what is lost, what grows?

    make soak                    one hour
    make soak SOAK_SECONDS=120       the short form that CI runs

Of a hundred calls 83 are usual ones (submitted, polled, fetched), 10 are cancelled, 5 are callers who hang up, 2 are
hostile. Prints one JSON object and exits with 1 when something was lost or is stuck, or memory or open files grow.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from tests.pictures.corpus import harmful

from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import JobState
from hidream_edit.settings import ServerSettings
from hidream_edit.wiring.server_parts import open_parts

APP = "/fal-ai/hidream-e1-full"
PORT, CLIENTS = 8972, 6
URL = f"http://127.0.0.1:{PORT}"
KILL_SECONDS, SAMPLE_SECONDS = 60.0, 2.0
MEMORY_MIB_MAX, FILES_MAX = 60.0, 40  # growth of the API process after the first fifth of the time
INSIDE = ["http://127.0.0.1:22/", "http://169.254.169.254/latest/", "http://[::1]/", "file:///etc/passwd"]
MIX = {"usual": 83, "cancelled": 10, "hung up": 5, "hostile": 2}
SHORT_LEASE = {"HIDREAM_EDIT_SERVER_LEASE_SECONDS": "3", "HIDREAM_EDIT_SERVER_HEARTBEAT_SECONDS": "0.5"}


def uri(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def a_picture() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


class Load:
    """Clients, and what they were told."""

    def __init__(self, seed: int) -> None:
        self.acknowledged: list[str] = []
        self.counts = dict.fromkeys((*MIX, "not answered", "answered 5xx"), 0)
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._picture = uri(a_picture())
        self._harmful = [uri(data) for _, data in harmful() if len(data) < 400_000] + INSIDE
        self._calls = {"usual": self._wait, "cancelled": self._cancel, "hung up": self._hang_up, "hostile": self._harm}
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed + n),)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _run(self, rng: random.Random) -> None:
        with httpx.Client(base_url=URL, timeout=60) as client:
            while not self._stopped.is_set():
                what = rng.choices(list(MIX), list(MIX.values()))[0]
                try:
                    self._calls[what](client, rng)
                    self._count(what)
                except (httpx.HTTPError, OSError):
                    self._count("not answered")

    def _submit(self, client: httpx.Client, **fields: Any) -> str:
        body = {"image_url": self._picture, "edit_instruction": "x", "num_inference_steps": 3} | fields
        response = client.post(f"/queue{APP}", json=body)
        if response.status_code >= 500:
            self._count("answered 5xx")
        response.raise_for_status()
        request_id = str(response.json()["request_id"])
        with self._lock:
            self.acknowledged.append(request_id)
        return request_id

    def _wait(self, client: httpx.Client, _: random.Random, **fields: Any) -> None:
        request_id = self._submit(client, **fields)
        while client.get(f"/queue{APP}/requests/{request_id}/status?logs=1").status_code == 202:
            if self._stopped.wait(0.05):
                return
        client.get(f"/queue{APP}/requests/{request_id}")

    def _cancel(self, client: httpx.Client, rng: random.Random) -> None:
        request_id = self._submit(client, num_inference_steps=40)
        time.sleep(rng.uniform(0, 0.3))
        client.put(f"/queue{APP}/requests/{request_id}/cancel")

    def _hang_up(self, _: httpx.Client, rng: random.Random) -> None:
        body = json.dumps({"edit_instruction": "x", "image_url": self._picture, "num_inference_steps": 30}).encode()
        head = f"POST {APP}{rng.choice(('', '/stream'))} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", PORT), timeout=10) as connection:
            connection.sendall(head.encode() + body[: rng.choice((len(body), rng.randint(0, len(body))))])
            time.sleep(rng.uniform(0, 0.2))

    def _harm(self, client: httpx.Client, rng: random.Random) -> None:
        self._wait(client, rng, image_url=rng.choice(self._harmful))


class Watch:
    """Memory and open files of a process, over time."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.samples: list[tuple[float, float, int]] = []

    def look(self) -> None:
        mebibytes = self._process.memory_info().rss / 2**20
        self.samples.append((time.monotonic(), mebibytes, self._process.num_fds()))

    def report(self) -> dict[str, float]:
        """The first fifth is warming up."""
        times, memory, files = (
            np.array(column) for column in zip(*self.samples[len(self.samples) // 5 :], strict=True)
        )
        slope = float(np.polyfit(times - times[0], memory, 1)[0])
        return {
            "MiB at the end": round(float(memory[-1]), 1),
            "MiB grown": round(slope * float(times[-1] - times[0]), 1),
            "open files at the end": int(files[-1]),
            "open files grown": int(files[-1] - files[0]),
        }


def run(seconds: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        command = [sys.executable, "-W", "ignore", "-m", "hidream_edit", "serve", "--model", "null"]
        environment = os.environ | SHORT_LEASE | {"HIDREAM_EDIT_NULL_SECONDS_PER_STEP": "0.01"}
        server = subprocess.Popen(
            [*command, "--port", str(PORT), "--data", folder], env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        parts = None
        try:
            wait_until_ready()
            process, kills = psutil.Process(server.pid), 0
            watch, load = Watch(process), Load(seed)
            began, killed_at = time.monotonic(), time.monotonic()
            while time.monotonic() - began < seconds:
                time.sleep(SAMPLE_SECONDS)
                watch.look()
                if time.monotonic() - killed_at > min(KILL_SECONDS, seconds / 4):
                    killed_at, kills = time.monotonic(), kills + 1
                    for child in process.children():
                        child.send_signal(signal.SIGKILL)
            load.stop()
            parts = open_parts(ServerSettings(data=str(data)))
            stuck, lost, completed = judged(parts.store, load.acknowledged)
            watch.look()
            return {
                "seconds": seconds, "seed": seed, "calls": load.counts, "acknowledged": len(load.acknowledged),
                "completed": completed, "runner killed": kills, "lost": lost, "stuck": stuck, "API": watch.report(),
            }  # fmt: skip
        finally:
            if parts is not None:
                parts.close()
            server.terminate()
            server.wait(60)


def wait_until_ready() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{URL}/health/ready").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server did not become ready")


def judged(store: JobStore, acknowledged: list[str]) -> tuple[int, int, int]:
    """How many are stuck, lost, completed; what still waits gets its time."""
    deadline = time.monotonic() + 120
    while True:
        states = []
        for job_id in acknowledged:
            try:
                states.append(store.get(job_id).state)
            except JobNotFound:
                continue
        stuck = sum(not state.is_final for state in states)
        if not stuck or time.monotonic() > deadline:
            return stuck, len(acknowledged) - len(states), sum(state is JobState.COMPLETED for state in states)
        time.sleep(1)


def main() -> None:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    report = run(options.seconds, options.seed)
    print(json.dumps(report, indent=1))
    api = report["API"]
    grows = api["MiB grown"] > MEMORY_MIB_MAX or api["open files grown"] > FILES_MAX
    sys.exit(bool(report["lost"] or report["stuck"] or report["calls"]["answered 5xx"] or grows))


if __name__ == "__main__":
    main()
