"""What people do with the official Python client, unmodified. Prints one JSON object."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import ssl
import sys
from pathlib import Path

import fal_client
import httpx
from fal_client.client import RealtimeError

APP = "fal-ai/hidream-e1-full"
faulthandler.dump_traceback_later(150, exit=True)  # before the test gives up, so that one sees where it hangs
picture = Path(sys.argv[1])
seen: dict[str, object] = {}
trusted = ssl.create_default_context()  # by SSL_CERT_FILE, as the client does

arguments = {"image_url": fal_client.encode_file(picture), "edit_instruction": "make it night", "output_format": "png"}
seen["run"] = fal_client.run(APP, arguments={**arguments, "seed": 5})["seed"]

updates: list[object] = []
result = fal_client.subscribe(APP, arguments=arguments, with_logs=True, on_queue_update=updates.append)
last = updates[-1]
assert isinstance(last, fal_client.Completed)
seen["subscribe"] = {"images": len(result["images"]), "steps": sum("step" in one["message"] for one in last.logs or [])}

handle = fal_client.submit(APP, arguments=arguments)
seen["submit"] = {"images": len(handle.get()["images"]), "status": type(handle.status()).__name__}

events = list(fal_client.stream(APP, arguments={**arguments, "num_inference_steps": 30}))
seen["stream"] = {"many": len(events) > 1, "final": len(events[-1]["images"])}

for repository in ("fal_v3", "cdn", "fal"):
    url = fal_client.upload(picture.read_bytes(), "image/png", file_name="a.png", repository=repository)
    seen[f"upload {repository}"] = httpx.get(url, verify=trusted).content == picture.read_bytes()
    edited = fal_client.run(APP, arguments={**arguments, "image_url": url})
    seen[f"edit of {repository}"] = edited["images"][0]["width"]
large = fal_client.upload(bytes(101 * 2**20), "application/octet-stream")
seen["multipart"] = int(httpx.head(large, verify=trusted).headers["content-length"])

slow = fal_client.submit(APP, arguments={**arguments, "num_inference_steps": 50})
slow.cancel()
try:
    slow.get()
except fal_client.FalClientHTTPError as error:
    seen["cancelled"] = [error.status_code, error.error_type]
try:
    fal_client.run(APP, arguments={**arguments, "num_images": 9})
except fal_client.FalClientHTTPError as error:
    seen["invalid"] = error.status_code
try:
    fal_client.subscribe(APP, arguments={**arguments, "num_inference_steps": 50}, client_timeout=0.5, start_timeout=30)
except fal_client.FalClientTimeoutError as error:
    seen["client timeout"] = type(error).__name__


with fal_client.realtime(APP) as connection:
    widths = []
    for seed in (1, 2, 3):
        connection.send({**arguments, "seed": seed})
        answer = connection.recv()
        assert answer is not None
        widths.append([answer["seed"], answer["images"][0]["width"]])
    seen["realtime"] = widths
    connection.send({**arguments, "num_images": 9})
    try:
        connection.recv()
    except RealtimeError as error:
        seen["realtime error"] = "INVALID_INPUT" in str(error)


async def in_async() -> int:
    answer = await fal_client.subscribe_async(APP, arguments=arguments)
    return len(answer["images"])


seen["async"] = asyncio.run(in_async())
sys.stdout.write(json.dumps(seen))
