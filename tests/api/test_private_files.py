"""Files that open to their owner and to signed addresses only, quotas of bytes, and storage that is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import APP, LINKS, Server, an_input, picture_bytes
from tests.api.test_callers import ALICE, BOB, Two, key_with
from tests.api.test_callers import two as two  # the fixture

from hidream_edit.domain.errors import BlobsUnavailable
from hidream_edit.domain.quotas import Quota
from hidream_edit.testing import NullEngine

LIFECYCLE = "x-fal-object-lifecycle-preference"


def access(word: str) -> dict[str, str]:
    return {LIFECYCLE: json.dumps({"expiration_duration_seconds": 600, "initial_acl": {"default": word, "rules": []}})}


def private_upload(client: httpx.Client, word: str) -> str:
    place = client.post("/storage/upload/initiate", json={"content_type": "image/png"}, headers=access(word)).json()
    assert httpx.put(place["upload_url"], content=picture_bytes()).is_success
    url: str = place["file_url"]
    return url


@pytest.mark.parametrize(("word", "status"), [("forbid", 403), ("hide", 404), ("allow", 200)])
def test_a_private_upload_opens_to_its_owner_only(two: Two, word: str, status: int) -> None:
    url = private_upload(two.clients[ALICE], word)
    assert two.clients[ALICE].get(url).content == picture_bytes()
    assert two.clients[BOB].get(url).status_code == status
    assert httpx.get(url).status_code == status


def test_what_is_private_is_in_no_shared_cache(two: Two) -> None:
    url = private_upload(two.clients[ALICE], "hide")
    assert "no-store" in two.clients[ALICE].get(url).headers["cache-control"]


def test_a_signed_address_opens_until_its_end_and_only_its_own_file(two: Two) -> None:
    alice = two.clients[ALICE]
    url, other = private_upload(alice, "hide"), private_upload(alice, "hide")
    signed = alice.post(f"{url}/sign", json={"expiration_seconds": 60}).json()
    assert httpx.get(signed["url"]).content == picture_bytes()
    query = signed["url"].partition("?")[2]
    assert httpx.get(f"{other}?{query}").status_code == 404
    later = query.replace("expires=", "expires=9")
    assert httpx.get(f"{url}?{later}").status_code == 404
    assert httpx.get(f"{url}?{query[:-1]}").status_code == 404
    blob_id = url.split("/")[-2]
    assert httpx.get(f"{url}?{LINKS.query(blob_id, 1.0)}").status_code == 404  # long over


@pytest.mark.parametrize("seconds", [0, -1, 8 * 24 * 3600, "x", True, None])
def test_a_signed_address_lives_for_up_to_a_week(two: Two, seconds: object) -> None:
    url = private_upload(two.clients[ALICE], "hide")
    answer = two.clients[ALICE].post(f"{url}/sign", json={"expiration_seconds": seconds})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


def test_nobody_signs_addresses_of_anothers_file(two: Two) -> None:
    url = private_upload(two.clients[ALICE], "forbid")
    assert two.clients[BOB].post(f"{url}/sign", json={}).status_code == 404
    assert httpx.post(f"{url}/sign", json={}).status_code == 401


def test_anothers_private_file_cannot_be_edited_and_ones_own_can(two: Two) -> None:
    url = private_upload(two.clients[ALICE], "hide")
    assert two.clients[ALICE].post(APP, json=an_input(image_url=url)).status_code == 200
    refused = two.clients[BOB].post(APP, json=an_input(image_url=url))
    gone = two.clients[BOB].post(APP, json=an_input(image_url=url.replace(url.split("/")[-2], "x" * 32)))
    assert refused.json()["detail"][0]["msg"] == gone.json()["detail"][0]["msg"]
    assert refused.json()["detail"][0]["type"] == gone.json()["detail"][0]["type"] == "file_download_error"
    signed = two.clients[ALICE].post(f"{url}/sign", json={}).json()["url"]
    assert two.clients[BOB].post(APP, json=an_input(image_url=signed)).status_code == 200


def test_private_results_come_with_signed_addresses(two: Two) -> None:
    alice = two.clients[ALICE]
    url = alice.post(APP, json=an_input(), headers=access("hide")).json()["images"][0]["url"]
    assert "signature=" in url
    assert httpx.get(url).status_code == 200
    assert httpx.get(url.partition("?")[0]).status_code == 404
    assert alice.get(url.partition("?")[0]).status_code == 200
    assert alice.post(APP, json=an_input(image_url=url)).status_code == 200


def test_a_number_of_bytes_holds_for_uploads_in_every_form(two: Two) -> None:
    size = len(picture_bytes())
    with key_with(two.server, quota=Quota(bytes_max=2 * size)) as client:
        place = client.post("/storage/upload/initiate", json={"content_type": "image/png"}).json()
        assert httpx.put(place["upload_url"], content=picture_bytes()).is_success
        token = client.post("/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()["token"]
        direct = {"authorization": f"Bearer {token}", "content-type": "image/png"}
        assert client.post("/files/upload", content=picture_bytes(), headers=direct).is_success
        for refused in (
            client.post("/files/upload", content=picture_bytes(), headers=direct),
            httpx.put(place["upload_url"].replace("/storage/upload/", "/storage/upload/"), content=bytes(3 * size)),
        ):
            assert refused.status_code == 413
            assert f"{2 * size:,} bytes" in refused.json()["detail"]
        assert client.post(APP, json=an_input()).status_code == 200  # results are not refused


def test_storage_that_is_away_refuses_uploads_for_now(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> int:
        raise BlobsUnavailable("s3://secret-bucket does not answer at http://10.0.0.7")

    objects = server.blobs._objects
    place = server.client.post("/storage/upload/initiate", json={"content_type": "image/png"}).json()
    with monkeypatch.context() as patched:
        patched.setattr(objects, "put", away)
        refused = httpx.put(place["upload_url"], content=picture_bytes())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert "secret-bucket" not in refused.text
    assert "10.0.0.7" not in refused.text
    assert httpx.put(place["upload_url"], content=picture_bytes()).is_success
    assert httpx.get(place["file_url"]).content == picture_bytes()


def test_reading_from_storage_that_is_away_is_a_503_before_any_byte(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.client.post(APP, json=an_input()).json()["images"][0]["url"]

    def away(*_: object, **__: object) -> Iterator[bytes]:
        raise BlobsUnavailable("away")

    monkeypatch.setattr(server.blobs._objects, "read", away)
    assert httpx.get(url).status_code == 503


def test_a_result_waits_for_storage_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, engine=NullEngine(steps=2))
    put, failures = server.blobs._objects.put, iter(range(2))

    def away_twice(*arguments: Any) -> int:
        if next(failures, None) is not None:
            raise BlobsUnavailable("away")
        return put(*arguments)

    monkeypatch.setattr(server.blobs._objects, "put", away_twice)
    try:
        answer = server.client.post(APP, json=an_input())
        assert answer.status_code == 200
        assert httpx.get(answer.json()["images"][0]["url"]).status_code == 200
    finally:
        server.close()
