"""Uploads, downloads, and the ways in."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.api.conftest import APP, Server, an_input, picture_bytes

from hidream_edit.pictures.decode import decode

INITIATE = "/storage/upload/initiate?storage_type=fal-cdn-v3"


def initiate(server: Server, **fields: Any) -> dict[str, str]:
    response = server.client.post(INITIATE, json={"content_type": "image/png", "file_name": "a.png"} | fields)
    assert response.status_code == 200
    body: dict[str, str] = response.json()
    return body


def uploaded(server: Server, data: bytes | None = None) -> str:
    place = initiate(server)
    assert httpx.put(place["upload_url"], content=data or picture_bytes()).is_success
    return place["file_url"]


def test_an_upload_lies_where_it_was_promised(server: Server) -> None:
    place = initiate(server, file_name="ä ö.png")
    response = httpx.put(place["upload_url"], content=picture_bytes(), headers={"content-type": "image/png"})
    assert response.json()["file_url"] == place["file_url"]
    got = httpx.get(place["file_url"])
    assert (got.content, got.headers["content-type"]) == (picture_bytes(), "image/png")
    assert place["file_url"].endswith(".png")


def test_an_upload_address_opens_its_own_place_only(server: Server) -> None:
    first, second = initiate(server), initiate(server)
    token = first["upload_url"].partition("?")[2]
    assert httpx.put(f"{second['upload_url'].partition('?')[0]}?{token}", content=b"x").status_code == 404
    assert httpx.put(first["upload_url"].partition("?")[0], content=b"x").status_code == 404
    assert httpx.get(second["file_url"]).status_code == 404


def test_an_upload_is_a_source_without_a_request_to_ourselves(server: Server) -> None:
    url = uploaded(server, picture_bytes((1, 2, 3)))
    body = server.client.post(APP, json=an_input(image_url=url)).json()
    assert decode(httpx.get(body["images"][0]["url"]).content).rgb[:3] == bytes((254, 253, 252))


def test_an_address_of_ours_without_a_file_is_a_download_error(server: Server) -> None:
    response = server.client.post(APP, json=an_input(image_url=f"{server.url}/files/b/{'x' * 32}/file.png"))
    assert response.json()["detail"][0]["type"] == "file_download_error"


def test_large_files_come_in_parts_in_any_order(server: Server) -> None:
    response = server.client.post("/storage/upload/initiate-multipart", json={"content_type": "image/png"})
    place = response.json()
    base, _, query = place["upload_url"].partition("?")
    parts = []
    for number, data in ((2, b"world"), (1, b"hello ")):
        answer = httpx.put(f"{base}/{number}?{query}", content=data)
        assert answer.json() == {"partNumber": number, "etag": answer.headers["etag"]}
        parts.append(answer.json())
    assert httpx.post(f"{base}/complete?{query}", json={"parts": parts}).is_success
    assert httpx.get(place["file_url"]).content == b"hello world"


@pytest.mark.parametrize("parts", [[{"partNumber": 1}, {"partNumber": 3}], [{"partNumber": 2}], [{}], "x", None])
def test_joining_what_was_not_uploaded_is_a_bad_request(server: Server, parts: object) -> None:
    place = initiate(server)
    base, _, query = place["upload_url"].partition("?")
    httpx.put(f"{base}/1?{query}", content=b"x")
    assert httpx.post(f"{base}/complete?{query}", json={"parts": parts}).status_code == 400


def test_a_direct_upload_goes_by_token(server: Server) -> None:
    credential = server.new_key()
    token = server.client.post("/storage/auth/token", json={}, headers={"authorization": f"Key {credential}"}).json()
    assert token["expires_at"].endswith("+00:00")
    headers = {
        "authorization": f"{token['token_type']} {token['token']}",
        "content-type": "image/png",
        "x-fal-file-name": "a.png",
    }
    assert server.client.post("/files/upload", content=picture_bytes()).status_code == 401
    url = server.client.post("/files/upload", content=picture_bytes(), headers=headers).json()["access_url"]
    assert httpx.get(url).content == picture_bytes()
    begun = server.client.post("/files/upload/multipart", headers=headers).json()
    multipart = f"{begun['access_url']}/multipart/{begun['uploadId']}"
    for number, data in ((2, b"b"), (1, b"a")):
        assert httpx.put(f"{multipart}/{number}", content=data, headers=headers).headers["etag"]
    parts = [{"partNumber": 2, "etag": "x"}, {"partNumber": 1, "etag": "y"}]
    assert httpx.post(f"{multipart}/complete", json={"parts": parts}, headers=headers).is_success
    assert httpx.get(begun["access_url"]).content == b"ab"


def test_a_file_over_the_limit_leaves_nothing(server: Server) -> None:
    place = initiate(server)
    response = httpx.put(place["upload_url"], content=bytes(40_000_001))
    assert response.status_code == 413
    assert httpx.get(place["file_url"]).status_code == 404


def test_an_upload_lives_as_long_as_was_asked(server: Server) -> None:
    headers = {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 0.05}'}
    place = server.client.post(INITIATE, json={"content_type": "image/png"}, headers=headers).json()
    httpx.put(place["upload_url"], content=b"x")
    import time

    time.sleep(0.06)
    assert httpx.get(place["file_url"]).status_code == 404


@pytest.mark.parametrize(
    ("header", "status", "content", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=x-y", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_file_can_be_asked_for(
    server: Server, header: str, status: int, content: bytes, content_range: str | None
) -> None:
    url = uploaded(server, b"0123456789")
    response = httpx.get(url, headers={"range": header})
    assert (response.status_code, response.content) == (status, content)
    assert response.headers.get("content-range") == content_range


def test_downloads_can_be_cached_and_asked_about(server: Server) -> None:
    url = uploaded(server)
    head = httpx.head(url)
    assert (head.headers["content-length"], head.content) == (str(len(picture_bytes())), b"")
    assert "immutable" in head.headers["cache-control"]
    assert httpx.get(url, headers={"if-none-match": head.headers["etag"]}).status_code == 304


def test_a_page_that_somebody_uploads_is_never_shown_as_a_page(server: Server) -> None:
    place = initiate(server, content_type="text/html", file_name="x.html")
    httpx.put(place["upload_url"], content=b"<script>alert(1)</script>", headers={"content-type": "text/html"})
    response = httpx.get(place["file_url"])
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_the_hosts_name_opens_the_same_routes(server: Server) -> None:
    for host, path in (("queue.fal.run", APP), ("queue.localhost:1234", APP), ("queue.fal.run", f"/queue{APP}")):
        body = server.client.post(path, json=an_input(), headers={"host": host}).json()
        assert body["status_url"].startswith(f"http://{host}{APP}/requests/")
        status = server.client.get(f"{APP}/requests/{body['request_id']}/status", headers={"host": host})
        assert status.json()["status"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    run = server.client.post(APP, json=an_input(), headers={"host": "fal.run"})
    assert run.json()["images"][0]["url"].startswith("http://fal.run/files/b/")


def test_the_proxy_address_leads_to_what_its_header_names(server: Server) -> None:
    def through(method: str, target: str, **options: Any) -> httpx.Response:
        return server.client.request(method, "/api/fal/proxy", headers={"x-fal-target-url": target}, **options)

    assert through("POST", f"https://fal.run{APP}", json=an_input()).json()["images"]
    body = through("POST", f"https://queue.fal.run{APP}?fal_max_queue_length=5", json=an_input()).json()
    assert body["status_url"].startswith(f"https://queue.fal.run{APP}/requests/")
    server.result(body["request_id"])
    status = through("GET", f"{body['status_url']}?logs=1")
    assert status.json()["logs"]
    place = through("POST", f"https://rest.fal.ai{INITIATE}", json={"content_type": "image/png"}).json()
    assert place["upload_url"].startswith(server.url)
    assert httpx.put(place["upload_url"], content=b"x").is_success


@pytest.mark.parametrize(
    "target", ["", "https://evil.example/x", "file:///etc/passwd", "nonsense", "https://fal.run.evil/"]
)
def test_the_proxy_leads_nowhere_else(server: Server, target: str) -> None:
    response = server.client.post("/api/fal/proxy", json={}, headers={"x-fal-target-url": target})
    assert (response.status_code, response.json()) == (400, "Invalid request")


def test_the_target_header_means_nothing_on_other_routes(server: Server) -> None:
    headers = {"x-fal-target-url": f"https://queue.fal.run{APP}"}
    assert "images" in server.client.post(APP, json=an_input(), headers=headers).json()
