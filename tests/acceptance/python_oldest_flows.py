"""What people did with an early version of the official Python client, unmodified. Prints one JSON object."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import ssl
import sys
from importlib.metadata import version
from pathlib import Path

import fal_client
import httpx

APP = "fal-ai/hidream-e1-full"
faulthandler.dump_traceback_later(150, exit=True)  # before the test gives up, so that one sees where it hangs
picture = Path(sys.argv[1])
seen: dict[str, object] = {"version": version("fal-client")}
trusted = ssl.create_default_context()

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

url = fal_client.upload_file(picture)
seen["upload"] = httpx.get(url, verify=trusted).content == picture.read_bytes()
seen["edit of upload"] = fal_client.run(APP, arguments={**arguments, "image_url": url})["images"][0]["width"]


async def in_async() -> int:
    handle = await fal_client.submit_async(APP, arguments=arguments)
    return len((await handle.get())["images"])


seen["async"] = asyncio.run(in_async())
sys.stdout.write(json.dumps(seen))
