"""The durable path with an engine that costs nothing, beside two servers that store nothing.

    make bench-api

Starts `hidream-edit serve --model null` on SQLite with `synchronous=full` and on PostgreSQL, LitServe and BentoML with
a model that does nothing, each as processes of their own, one after the other, and speaks to each over loopback with
the same client. Prints one JSON object; whoever runs it puts the numbers into benchmarks/LOG.md.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
from PIL import Image

APP = "/fal-ai/hidream-e1-full"
PORT = 8974
URL = f"http://127.0.0.1:{PORT}"
PEERS = Path(__file__).parent / "peers"
Call = Callable[[aiohttp.ClientSession], Awaitable[None]]


def an_input() -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "JPEG")
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"image_url": uri, "edit_instruction": "x", "num_inference_steps": 1, "seed": 1}


BODY = json.dumps(an_input()).encode()
JSON = {"content-type": "application/json"}


def post(path: str) -> Call:
    async def call(client: aiohttp.ClientSession) -> None:
        async with client.post(URL + path, data=BODY, headers=JSON) as response:
            response.raise_for_status()
            await response.read()

    return call


def get(path: str) -> Call:
    async def call(client: aiohttp.ClientSession) -> None:
        async with client.get(URL + path) as response:
            response.raise_for_status()
            await response.read()

    return call


def milliseconds(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: round(1000 * ordered[int(share * (len(ordered) - 1))], 2) for name, share in at.items()}


async def many(count: int, clients: int, call: Call) -> dict[str, float]:
    """Calls per second, and how long they took."""
    seconds: list[float] = []
    left = iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients)) as client:

        async def work() -> None:
            for _ in left:
                began = time.perf_counter()
                await call(client)
                seconds.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        return {"per second": round(count / (time.perf_counter() - began), 1), **milliseconds(seconds)}


def disk_commit_milliseconds(folder: Path) -> float:
    """The disk's own time for one small durable write, for comparison."""
    seconds = []
    with (folder / "probe").open("wb") as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return round(1000 * sorted(seconds)[50], 3)


async def synchronous(path: str) -> dict[str, Any]:
    await many(50, 4, post(path))
    return {
        "synchronous, 1 client": await many(300, 1, post(path)),
        "synchronous, 32 clients": await many(2000, 32, post(path)),
    }


async def after_the_engine(calls: int) -> dict[str, float]:
    """From the engine's last step, as the request's log has it, to the answer at the client; in milliseconds."""
    seconds = []
    async with aiohttp.ClientSession() as client:
        for _ in range(calls):
            async with client.post(URL + APP, data=BODY, headers=JSON) as response:
                await response.read()
                received, request_id = time.time(), response.headers["x-fal-request-id"]
            async with client.get(f"{URL}/queue{APP}/requests/{request_id}/status?logs=1") as response:
                logs = (await response.json())["logs"]
            last = [entry for entry in logs if entry["message"].startswith("step")][-1]
            seconds.append(received - datetime.fromisoformat(last["timestamp"]).timestamp())
    return milliseconds(seconds)


async def ours(server: psutil.Process) -> dict[str, Any]:
    """Everything that has a goal."""
    report = await synchronous(APP)
    report["from the engine's end to the answer, 1 client"] = await after_the_engine(200)
    async with httpx.AsyncClient(base_url=URL) as client:
        request_id = (await client.post(f"/queue{APP}", content=BODY)).json()["request_id"]
    status = f"/queue{APP}/requests/{request_id}/status"
    report["status poll, 16 clients"] = await many(8000, 16, get(status))
    report["status poll, 1 client"] = await many(2000, 1, get(status))
    report["submit, 64 clients"] = await many(4000, 64, post(f"/queue{APP}"))
    while (await _line_length()) > 0:  # noqa: ASYNC110 - the server is another process
        await asyncio.sleep(0.5)
    await asyncio.sleep(2)
    before, began = server.cpu_times(), time.perf_counter()
    await asyncio.sleep(10)
    after = server.cpu_times()
    used = (after.user + after.system - before.user - before.system) / (time.perf_counter() - began)
    report["API process, idle, share of a core"] = round(used, 4)
    report["API process, MiB"] = round(server.memory_info().rss / 2**20, 1)
    return report


async def _line_length() -> int:
    async with httpx.AsyncClient(base_url=URL) as client:
        submitted = (await client.post(f"/queue{APP}", content=BODY)).json()
        status = (await client.get(f"/queue{APP}/requests/{submitted['request_id']}/status")).json()
        return int(status.get("queue_position", 0))


@contextmanager
def started(command: list[str], ready: str, **options: Any) -> Iterator[psutil.Process]:
    """A server, once it answers."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(URL + ready, timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(f"{command} did not start")
            time.sleep(0.1)
        yield psutil.Process(server.pid)
    finally:
        for child in psutil.Process(server.pid).children(recursive=True) if server.poll() is None else ():
            child.terminate()
        server.terminate()
        server.wait(30)


def measure_ours(database: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", "hidream_edit", "serve", "--model", "null"]
        command += ["--port", str(PORT), "--data", folder]
        command += ["--database", database] if database else []
        with started(command, "/health/ready") as server:
            return asyncio.run(ours(server))


def measure_peers(python: Path) -> dict[str, Any]:
    report = {}
    with started([str(python), str(PEERS / "litserve_null.py"), str(PORT)], "/health"):
        report["LitServe"] = asyncio.run(synchronous("/predict"))
    bentoml = [str(python), "-m", "bentoml", "serve", "bentoml_null:Null", "--port", str(PORT), "--host", "127.0.0.1"]
    with started(bentoml, "/readyz", cwd=PEERS, env={**os.environ, "BENTOML_DO_NOT_TRACK": "true"}):
        report["BentoML"] = asyncio.run(synchronous("/predict"))
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--peers", type=Path, help="interpreter of an environment with litserve and bentoml")
    parser.add_argument("--only", choices=["sqlite", "postgres", "peers"], help="a part of it")
    options = parser.parse_args()
    report: dict[str, Any] = {"python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        report["disk, one durable write, ms"] = disk_commit_milliseconds(Path(folder))
    if options.only in (None, "sqlite"):
        report["SQLite, full"] = measure_ours(None)
    if options.only in (None, "postgres"):
        from tests.support.postgres import new_database

        report["PostgreSQL"] = measure_ours(new_database())
    if options.peers is not None and options.only in (None, "peers"):
        report |= measure_peers(options.peers)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
