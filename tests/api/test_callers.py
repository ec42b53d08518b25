"""What a key opens, how much of it, and that it opens nothing of anybody else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.api.conftest import APP, Server, an_input, picture_bytes
from tests.conftest import Leaks

from hidream_edit.api.app import ROUTES
from hidream_edit.domain.keys import Scope, new_key
from hidream_edit.domain.quotas import Quota
from hidream_edit.testing import NullEngine

ALICE, BOB = "alice", "bob"


class Two:
    """A server with two callers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients = {
            name: httpx.Client(
                base_url=server.url, timeout=20, headers={"authorization": f"Key {server.new_key(name)}"}
            )
            for name in (ALICE, BOB)
        }


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    server = Server(tmp_path, engine=NullEngine(seconds_per_step=0.02, steps=3))
    made = Two(server)
    yield made
    for client in made.clients.values():
        client.close()
    server.close()


def key_with(server: Server, **fields: object) -> httpx.Client:
    key, credential = new_key("limited", now=time.time(), **fields)  # type: ignore[arg-type]
    server.keys.add(key)
    return httpx.Client(base_url=server.url, timeout=20, headers={"authorization": f"Key {credential}"})


REQUEST_ROUTES = sorted(
    {
        (method, route.path.replace("/{owner}/{app}", APP))
        for route in ROUTES
        if "{request_id}" in route.path and not route.path.startswith("/admin/")  # those are for the owner
        for method in (getattr(route, "methods", None) or ())
    }
)


@pytest.mark.parametrize(("method", "path"), REQUEST_ROUTES)
@pytest.mark.parametrize("moment", ["running", "finished"])
def test_anothers_request_looks_as_if_it_did_not_exist(two: Two, method: str, path: str, moment: str) -> None:
    alice, bob = two.clients[ALICE], two.clients[BOB]
    steps = 50 if moment == "running" else 1
    submitted = two.server.submit(alice, num_inference_steps=steps)["request_id"]
    if moment == "finished":
        while alice.get(f"/queue{APP}/requests/{submitted}/status").status_code == 202:
            time.sleep(0.01)
    before = two.server.store.get(submitted)
    theirs = bob.request(method, path.replace("{request_id}", submitted))
    nobodys = bob.request(method, path.replace("{request_id}", "00000000-0000-0000-0000-000000000000"))
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.content == nobodys.content
    assert two.server.store.get(submitted).cancel_requested == before.cancel_requested is False


def test_the_matrix_has_every_route_that_names_a_request() -> None:
    assert len(REQUEST_ROUTES) >= 14
    assert {method for method, _ in REQUEST_ROUTES} >= {"GET", "PUT"}


def test_anothers_upload_cannot_be_continued_or_ended(two: Two) -> None:
    alice, bob = two.clients[ALICE], two.clients[BOB]
    begun = alice.post("/files/upload/multipart", headers={"content-type": "image/png"}).json()
    place = f"{httpx.URL(begun['access_url']).path}/multipart/{begun['uploadId']}"
    assert bob.put(f"{place}/1", content=b"mine").status_code == 404
    assert alice.put(f"{place}/1", content=picture_bytes()).status_code == 200
    assert bob.post(f"{place}/complete", json={"parts": [{"partNumber": 1}]}).status_code == 404
    assert alice.post(f"{place}/complete", json={"parts": [{"partNumber": 1}]}).status_code == 200


def test_the_same_idempotency_key_of_another_caller_is_another_request(two: Two) -> None:
    headers = {"x-fal-idempotency-key": "k"}
    ids = [
        client.post(f"/queue{APP}", json=an_input(), headers=headers).json()["request_id"]
        for client in two.clients.values()
    ]
    assert len(set(ids)) == 2


def test_a_rate_is_answered_with_429_and_when_to_come_again(two: Two) -> None:
    with key_with(two.server, quota=Quota(rate_per_minute=2)) as client:
        answers = [client.post(f"/queue{APP}", json=an_input()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        limited = answers[-1]
        assert 25 <= int(limited.headers["retry-after"]) <= 30
        assert limited.headers["x-fal-needs-retry"] == "1"
        assert limited.json()["error_type"] == "concurrent_requests_limit"
        assert client.post(APP, json=an_input()).status_code == 429
        assert client.post(f"{APP}/stream", json=an_input()).status_code == 429
    assert two.clients[BOB].post(f"/queue{APP}", json=an_input()).status_code == 200


def test_a_number_at_a_time_counts_waiting_and_running_requests(two: Two) -> None:
    with key_with(two.server, quota=Quota(concurrent_max=2)) as client:
        first = two.server.submit(client, num_inference_steps=40)["request_id"]
        two.server.submit(client)
        assert client.post(f"/queue{APP}", json=an_input()).status_code == 429
        client.put(f"/queue{APP}/requests/{first}/cancel")
        deadline = time.monotonic() + 10
        while client.post(f"/queue{APP}", json=an_input()).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_owners_view_needs_an_admin_key_and_shows_no_input(two: Two) -> None:
    two.server.submit(two.clients[ALICE], edit_instruction="a private wish")
    assert two.clients[ALICE].get("/admin/overview").status_code == 403
    assert httpx.get(f"{two.server.url}/admin/overview").status_code == 401
    with key_with(two.server, scope=Scope.ADMIN) as admin:
        seen = admin.get("/admin/overview")
        assert seen.status_code == 200
        assert seen.json()["requests"][0]["caller"]
        assert "a private wish" not in seen.text
        token = admin.post("/tokens/", json={}).json()
    with_token = httpx.get(f"{two.server.url}/admin/overview", headers={"authorization": f"Bearer {token}"})
    assert with_token.status_code == 403  # what a browser gets never opens that


def test_a_token_ends_with_its_key(two: Two) -> None:
    key, credential = new_key("short", now=time.time())
    two.server.keys.add(key)
    token = httpx.post(f"{two.server.url}/tokens/", json={}, headers={"authorization": f"Key {credential}"}).json()
    headers = {"authorization": f"Bearer {token}"}
    two.server.keys.revoke(key.id, now=time.time())
    assert httpx.post(f"{two.server.url}{APP}", json=an_input(), headers=headers).status_code == 401


def test_the_watch_over_logs_knows_a_secret_when_it_sees_one(no_secret_in_any_log: Leaks) -> None:
    _, credential = new_key("x", now=0)
    for line in (credential, "POST /x?token=abc", "authorization: Bearer abcdefgh.ijkl"):
        no_secret_in_any_log.handle(logging.makeLogRecord({"msg": line}))
    assert len(no_secret_in_any_log.found) == 3
    no_secret_in_any_log.found.clear()


def test_what_is_done_with_keys_is_written_down(two: Two) -> None:
    key, _ = new_key("phone", now=5.0)
    two.server.keys.add(key)
    two.server.keys.revoke(key.id, now=6.0)
    trail = [(action.at, action.action) for action in two.server.keys.actions(limit=2)]
    assert trail == [(6.0, "revoked"), (5.0, "created for phone, scope use")]
