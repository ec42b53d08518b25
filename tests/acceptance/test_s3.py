"""The whole server with its files in a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
from tests.acceptance.conftest import APP, Process, wait_for
from tests.acceptance.test_serve import an_input, status
from tests.support.gate import Gate
from tests.support.s3 import s3_server

from hidream_edit.blobs.s3 import Bucket, S3Objects

Start = Callable[..., Process]


def begun(start: Start, bucket: Bucket, endpoint: str, **environment: str) -> Process:
    return start(
        "--blobs",
        f"s3://{bucket.name}/{bucket.prefix}",
        HIDREAM_EDIT_S3_ENDPOINT=endpoint,
        HIDREAM_EDIT_S3_REGION=str(bucket.region),
        HIDREAM_EDIT_S3_ACCESS_KEY_ID=str(bucket.access_key_id),
        HIDREAM_EDIT_S3_SECRET_ACCESS_KEY=str(bucket.secret_access_key),
        **environment,
    )


def uploaded(server: Process) -> str:
    place = server.client.post("/storage/upload/initiate", json={"content_type": "image/png"}).json()
    stored = httpx.put(place["upload_url"], content=b"any bytes")
    assert stored.is_success, stored.text
    url: str = place["file_url"]
    return url


def objects_in(bucket: Bucket) -> list[str]:
    return [name for group in S3Objects(bucket).names(until=9e9) for name in group]


def test_uploads_and_results_lie_in_the_bucket_and_nowhere_else(start: Start, tmp_path: Path) -> None:
    bucket = s3_server().new_bucket()
    server = begun(start, bucket, s3_server().url)
    server.wait_until_ready()
    url = uploaded(server)
    result = server.client.post(APP, json=an_input()).json()["images"][0]["url"]
    assert httpx.get(url).content == b"any bytes"
    assert httpx.get(url, headers={"range": "bytes=4-"}).content == b"bytes"
    assert httpx.get(result).headers["content-type"] == "image/jpeg"
    assert len(objects_in(bucket)) == 2
    assert not (tmp_path / "data" / "blobs").exists()


def test_a_bucket_that_goes_away_during_an_edit_loses_nothing(start: Start) -> None:
    bucket = s3_server().new_bucket()
    gate = Gate(s3_server().port)
    server = begun(start, bucket, f"http://127.0.0.1:{gate.port}", HIDREAM_EDIT_NULL_SECONDS_PER_STEP="0.05")
    server.wait_until_ready()
    place = server.client.post("/storage/upload/initiate", json={"content_type": "image/png"}).json()
    request_id = server.client.post(f"/queue{APP}", json=an_input(steps=20)).json()["request_id"]
    wait_for(lambda: status(server, request_id) == "IN_PROGRESS")
    gate.shut()
    refused = httpx.put(place["upload_url"], content=b"any bytes", timeout=60)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    wait_for(lambda: any("trying again" in line for line in server.printed))
    assert status(server, request_id) == "IN_PROGRESS"
    gate.open()
    wait_for(lambda: status(server, request_id) == "COMPLETED")
    url = server.client.get(f"{APP}/requests/{request_id}").json()["images"][0]["url"]
    assert httpx.get(url).is_success
    assert httpx.put(place["upload_url"], content=b"any bytes").is_success
    logs = server.client.get(f"{APP}/requests/{request_id}/status?logs=1").json()["logs"]
    assert [line["message"] for line in logs if "attempt" in line["message"]] == ["attempt 1 on null"]
    gate.shut()
