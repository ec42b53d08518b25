"""What the web page is made of: its files, the caller's history, and what the owner sees."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import APP, Server, an_input
from tests.api.test_callers import ALICE, BOB, Two, key_with
from tests.api.test_callers import two as two  # the fixture

from hidream_edit.api.pages import FILES
from hidream_edit.domain.keys import Scope
from hidream_edit.testing import NullEngine


@pytest.mark.parametrize("path", ["/", "/admin", *(f"/playground/{name}" for name in FILES)])
def test_every_file_of_the_page_comes_under_a_strict_policy(server: Server, path: str) -> None:
    answer = server.client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_loads_nothing_from_anywhere_else() -> None:
    for name, (data, _) in FILES.items():
        text = data.decode("utf-8", "replace") if name.rpartition(".")[2] in ("html", "js", "css", "svg") else ""
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}, name  # the name of a format


@pytest.mark.parametrize("name", ["__init__.py", "nothing.js", "..%2f__init__.py"])
def test_other_files_of_the_package_are_not_handed_out(server: Server, name: str) -> None:
    assert server.client.get(f"/playground/{name}").status_code == 404


def test_a_caller_sees_own_requests_only_newest_first(two: Two) -> None:
    alice, bob = two.clients[ALICE], two.clients[BOB]
    for words in ("first", "second"):
        alice.post(APP, json=an_input(edit_instruction=words))
    bob.post(APP, json=an_input(edit_instruction="another's"))
    entries = alice.get("/v1/requests").json()["requests"]
    assert [one["instruction"] for one in entries] == ["second", "first"]
    assert entries[0]["status"] == "COMPLETED"
    assert httpx.get(entries[0]["images"][0]).headers["content-type"] == "image/png"


def test_history_comes_in_pages_without_gaps(server: Server) -> None:
    for number in range(5):
        server.client.post(APP, json=an_input(edit_instruction=f"n{number}"))
    seen: list[str] = []
    before: int | None = None
    for expected in (2, 2, 1):
        query = {"limit": 2} | ({} if before is None else {"before": before})
        page: dict[str, Any] = server.client.get("/v1/requests", params=query).json()
        assert len(page["requests"]) == expected
        seen += [one["instruction"] for one in page["requests"]]
        before = page["before"]
    assert seen == ["n4", "n3", "n2", "n1", "n0"]
    assert before is None


@pytest.mark.parametrize(("search", "found"), [("NIGHT", 1), ("100%", 1), ("%", 1), ("_", 0), ("!", 1), ("", 3)])
def test_words_are_searched_for_as_they_are(server: Server, search: str, found: int) -> None:
    for words in ("make it night", "100% brighter", "snow!"):
        server.client.post(APP, json=an_input(edit_instruction=words))
    assert len(server.client.get("/v1/requests", params={"search": search}).json()["requests"]) == found


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "before=x", "before=-1", "limit=" + "9" * 30])
def test_a_malformed_page_is_a_bad_request(server: Server, query: str) -> None:
    assert server.client.get(f"/v1/requests?{query}").status_code == 400


def test_what_is_not_to_be_stored_has_no_words_in_the_history(server: Server) -> None:
    server.client.post(APP, json=an_input(edit_instruction="a secret wish"), headers={"x-fal-store-io": "0"})
    (entry,) = server.client.get("/v1/requests").json()["requests"]
    assert entry["instruction"] == ""


def test_about_names_the_model_and_what_it_is_good_at(server: Server) -> None:
    deadline = time.monotonic() + 10
    while (about := server.client.get("/v1/about").json())["model"] is None:
        assert time.monotonic() < deadline
    assert about["model"] == {"name": "null", "device": "nothing", "examples": ["invert the colours"]}


def test_previews_come_with_the_status_stream_of_whoever_asked_for_them(tmp_path: Path) -> None:
    server = Server(tmp_path, engine=NullEngine(seconds_per_step=0.06))

    def previews(headers: dict[str, str], query: str) -> int:
        sent = server.client.post(f"/queue{APP}", json=an_input(num_inference_steps=10), headers=headers).json()
        with server.client.stream("GET", f"{sent['status_url']}/stream?{query}") as stream:
            events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
        assert events[-1]["status"] == "COMPLETED"
        return sum(event.get("preview", "").startswith("data:image/jpeg;base64,") for event in events)

    asked = {"x-hidream-previews": "1"}
    try:
        assert previews(asked, "previews=1&logs=1") >= 1
        assert previews({}, "previews=1") == 0
        assert previews(asked, "logs=1") == 0
    finally:
        server.close()


def test_the_owner_sees_keys_and_webhooks_without_their_secrets(two: Two) -> None:
    with key_with(two.server, scope=Scope.ADMIN) as owner:
        address = "https://hooks.example/path-of-secret?token=abc"
        two.clients[ALICE].post(f"/queue{APP}", params={"fal_webhook": address}, json=an_input())
        deadline = time.monotonic() + 20
        while not (seen := owner.get("/admin/overview").json())["deliveries"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert seen["deliveries"][0]["host"] == "hooks.example"
    assert {key["name"] for key in seen["keys"]} == {ALICE, BOB, "limited"}
    assert "secret" not in json.dumps(seen)
    assert "hash" not in json.dumps(seen)


def test_a_webhook_is_delivered_again_by_the_owner_only(two: Two) -> None:
    sent = two.clients[ALICE].post(f"/queue{APP}", params={"fal_webhook": "http://127.0.0.1:9/"}, json=an_input())
    path = f"/admin/deliveries/{sent.json()['request_id']}/redeliver"
    with key_with(two.server, scope=Scope.ADMIN) as owner:
        deadline = time.monotonic() + 20
        while (answer := owner.post(path)).status_code == 404:  # until it has ended
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert answer.status_code == 202
        assert owner.post("/admin/deliveries/no-such-request/redeliver").status_code == 404
    assert two.clients[ALICE].post(path).status_code == 403
