"""The durable path with an engine that costs nothing: how long a call takes, and how many fit into a second.

    make bench-api

Starts `hidream-edit serve --model null` as a process of its own, on SQLite with `synchronous=full`, and speaks to it
over loopback. Prints one JSON object; whoever runs it puts the numbers into benchmarks/LOG.md.
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
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

APP = "/fal-ai/hidream-e1-full"
PORT = 8974
URL = f"http://127.0.0.1:{PORT}"


def an_input() -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "JPEG")
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"image_url": uri, "edit_instruction": "x", "num_inference_steps": 1, "seed": 1}


def milliseconds(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: round(1000 * ordered[int(share * (len(ordered) - 1))], 2) for name, share in at.items()}


async def many(count: int, clients: int, call: Any) -> tuple[float, list[float]]:
    """Calls per second, and how long each took."""
    seconds: list[float] = []
    left = iter(range(count))
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=URL, timeout=60, limits=limits) as client:

        async def work() -> None:
            for _ in left:
                began = time.perf_counter()
                response = await call(client)
                response.raise_for_status()
                seconds.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        return round(count / (time.perf_counter() - began), 1), seconds


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


async def measure(server: subprocess.Popen[bytes], data: Path) -> dict[str, Any]:
    """All numbers."""
    body = an_input()
    report: dict[str, Any] = {"disk, one durable write, ms": disk_commit_milliseconds(data)}
    await many(20, 1, lambda client: client.post(APP, json=body))
    _, seconds = await many(200, 1, lambda client: client.post(APP, json=body))
    report["synchronous call, 1 client, ms"] = milliseconds(seconds)
    report["synchronous calls per second, 32 clients"], seconds = await many(
        800, 32, lambda client: client.post(APP, json=body)
    )
    report["synchronous call, 32 clients, ms"] = milliseconds(seconds)
    async with httpx.AsyncClient(base_url=URL) as client:
        request_id = (await client.post(f"/queue{APP}", json=body)).json()["request_id"]
    status = f"/queue{APP}/requests/{request_id}/status"
    report["status polls per second, 16 clients"], seconds = await many(4000, 16, lambda client: client.get(status))
    _, seconds = await many(1000, 1, lambda client: client.get(status))
    report["status poll, 1 client, ms"] = milliseconds(seconds)
    report["submits per second, 64 clients"], seconds = await many(
        1500, 64, lambda client: client.post(f"/queue{APP}", json=body)
    )
    report["submit, 64 clients, ms"] = milliseconds(seconds)
    api = psutil.Process(server.pid)
    await asyncio.sleep(20)  # the line runs empty
    before, began = api.cpu_times(), time.perf_counter()
    await asyncio.sleep(10)
    after = api.cpu_times()
    used = (after.user + after.system - before.user - before.system) / (time.perf_counter() - began)
    report["idle, share of a core"] = round(used, 4)
    report["API process, MiB"] = round(api.memory_info().rss / 2**20, 1)
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--database", help="postgresql:// address; SQLite without it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "hidream_edit",
            "serve",
            "--model",
            "null",
            "--port",
            str(PORT),
        ]
        command += ["--data", folder] + (["--database", options.database] if options.database else [])
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    if httpx.get(f"{URL}/health/ready").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.1)
            report = asyncio.run(measure(server, Path(folder)))
        finally:
            server.terminate()
            server.wait()
    about = {"store": "postgres" if options.database else "sqlite, full", "python": platform.python_version()}
    print(json.dumps(about | report, indent=1))


if __name__ == "__main__":
    main()
