"""Webhooks, against a receiver that verifies them as the public documentation says."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.api.conftest import APP, Server, an_input

from hidream_edit.domain.deliveries import RETRY_DELAYS_SECONDS, retry_at
from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.job import Failure, NewJob
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.webhooks.sender import WebhookSender
from hidream_edit.webhooks.signing import key_set, new_private_key


class Receiver(ThreadingHTTPServer):
    """Keeps what it got; answers with ``statuses`` in turn, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.location = "http://127.0.0.1:9/"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?secret=1"

    def wait(self, count: int = 1) -> list[tuple[dict[str, str], bytes]]:
        deadline = time.monotonic() + 10
        while len(self.received) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self.received


class ReceiverHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        server.received.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(server.statuses.pop(0) if server.statuses else 200)
        self.send_header("Location", server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def verify(headers: dict[str, str], body: bytes, keys: list[dict[str, str]]) -> bool:
    """The documented recipe of a receiver, from the public documentation only."""
    timestamp = headers["X-Fal-Webhook-Timestamp"]
    if abs(time.time() - int(timestamp)) > 300:
        return False
    message = "\n".join(
        [
            headers["X-Fal-Webhook-Request-Id"],
            headers["X-Fal-Webhook-User-Id"],
            timestamp,
            hashlib.sha256(body).hexdigest(),
        ]
    ).encode("utf-8")
    signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"])).verify(signature, message)
        except InvalidSignature:
            continue
        return True
    return False


def submit(server: Server, receiver: Receiver, **fields: Any) -> str:
    response = server.client.post(f"/queue{APP}", params={"fal_webhook": receiver.url}, json=an_input(**fields))
    return str(response.json()["request_id"])


def test_a_finished_job_is_told_with_the_result_of_the_queue_signed(server: Server, receiver: Receiver) -> None:
    request_id = submit(server, receiver)
    ((headers, body),) = receiver.wait()
    told = json.loads(body)
    assert told == {
        "request_id": request_id,
        "gateway_request_id": request_id,
        "status": "OK",
        "payload": server.result(request_id).json(),
        "error": None,
    }
    assert body == json.dumps(told, sort_keys=True).encode()
    keys = server.client.get("/.well-known/jwks.json").json()["keys"]
    assert len(keys[0]["x"]) == 44
    assert verify(headers, body, keys)
    assert not verify(headers, body + b" ", keys)
    assert httpx.get(told["payload"]["images"][0]["url"]).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status"), [({"edit_instruction": "fail"}, 500), ({"num_images": 9}, 422)], ids=["failed", "invalid"]
)
def test_a_failed_job_is_told_with_its_error(
    server: Server, receiver: Receiver, fields: dict[str, Any], status: int
) -> None:
    submit(server, receiver, **fields)
    ((_, body),) = receiver.wait()
    told = json.loads(body)
    assert (told["status"], told["error"]) == ("ERROR", f"Unexpected status code: {status}")
    assert told["payload"]["detail"]


def test_a_cancelled_job_is_told(idle_server: Server, receiver: Receiver) -> None:
    request_id = submit(idle_server, receiver)
    idle_server.client.put(f"/queue{APP}/requests/{request_id}/cancel")
    ((_, body),) = receiver.wait()
    assert json.loads(body)["payload"]["error_type"] == "client_cancelled"


def test_a_payload_that_is_too_large_is_left_out_and_the_body_says_so(
    server: Server, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hidream_edit.api.wire.WEBHOOK_PAYLOAD_BYTES_MAX", 100)
    request_id = submit(server, receiver)
    ((_, body),) = receiver.wait()
    told = json.loads(body)
    assert (told["status"], told["payload"], told["request_id"]) == ("OK", None, request_id)
    assert "too large" in told["payload_error"]
    assert server.result(request_id).status_code == 200


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Outbox:
    """A store with one finished job, and a sender whose clock the test moves."""

    def __init__(self, folder: Path, url: str, **options: Any) -> None:
        self.clock, self.key = Clock(), new_private_key()
        self.store = SqliteStore(folder / "jobs.sqlite3", synchronous="normal")
        self.sender = WebhookSender(
            self.store,
            lambda job: {"request_id": job.id},
            self.key,
            clock=self.clock,
            **({"allowed_networks": ("127.0.0.0/8",)} | options),
        )
        new = NewJob(id="a", caller="c", input={}, webhook_url=url, keep_seconds=1e6)
        self.store.submit(new, now=0, failure=Failure("x", "x"))


@pytest.fixture
def outbox(tmp_path: Path, receiver: Receiver) -> Iterator[Outbox]:
    made = Outbox(tmp_path, receiver.url)
    yield made
    made.store.close()


def test_what_fails_is_tried_again_with_the_same_body_and_a_new_signature(outbox: Outbox, receiver: Receiver) -> None:
    receiver.statuses = [500, 429]
    assert outbox.sender.once()
    assert not outbox.sender.once()
    outbox.clock.now += RETRY_DELAYS_SECONDS[0]
    assert outbox.sender.once()
    outbox.clock.now += RETRY_DELAYS_SECONDS[1]
    assert outbox.sender.once()
    outbox.clock.now += 1e5
    assert not outbox.sender.once()
    headers, bodies = zip(*receiver.received, strict=True)
    assert len(set(bodies)) == 1
    assert len({one["X-Fal-Webhook-Signature"] for one in headers}) == 3
    assert [(one.status, one.error) for one in outbox.store.attempts("a")] == [
        (500, "answered 500"), (429, "answered 429"), (200, None),
    ]  # fmt: skip


def test_after_two_hours_it_is_given_up(outbox: Outbox, receiver: Receiver) -> None:
    receiver.statuses = [503] * 50
    began = outbox.clock.now
    while outbox.sender.once():
        outbox.clock.now = retry_at(len(receiver.received), now=outbox.clock.now) or outbox.clock.now + 1e5
    assert len(receiver.received) == len(RETRY_DELAYS_SECONDS) + 1
    assert began + 7000 < outbox.store.attempts("a")[-1].at < began + 7400


def test_a_redirect_is_never_followed_and_final(outbox: Outbox, receiver: Receiver) -> None:
    receiver.statuses = [302]
    outbox.sender.once()
    outbox.clock.now += 1e5
    assert not outbox.sender.once()
    assert [one.status for one in outbox.store.attempts("a")] == [302]


def test_a_redirect_to_a_malformed_address_is_final_too(outbox: Outbox, receiver: Receiver) -> None:
    receiver.statuses, receiver.location = [302], "javascript:alert(1)"
    outbox.sender.once()
    outbox.clock.now += 1e5
    assert not outbox.sender.once()
    (attempt,) = outbox.store.attempts("a")
    assert "redirect" in str(attempt.error)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://10.0.0.1/", "file:///x", "nonsense", "http://[::1]/"])
def test_addresses_that_are_not_public_are_never_called(tmp_path: Path, url: str) -> None:
    outbox = Outbox(tmp_path, url, allowed_networks=())
    assert outbox.sender.once()
    outbox.clock.now += 1e5
    assert not outbox.sender.once()
    (attempt,) = outbox.store.attempts("a")
    assert (attempt.status, attempt.error is None) == (None, False)
    outbox.store.close()


def test_a_sender_that_dies_leaves_the_duty_to_the_next(outbox: Outbox) -> None:
    first = outbox.store.claim_delivery(now=outbox.clock.now, lease_seconds=60)
    assert first is not None
    assert outbox.store.claim_delivery(now=outbox.clock.now + 59, lease_seconds=60) is None
    again = outbox.store.claim_delivery(now=outbox.clock.now + 61, lease_seconds=60)
    assert again is not None
    assert again.attempt == 2


def test_attempts_go_with_their_job(outbox: Outbox) -> None:
    outbox.sender.once()
    outbox.store.prune(now=2e6)
    with pytest.raises(JobNotFound):
        outbox.store.get("a")
    assert outbox.store.attempts("a") == []


def test_a_key_set_holds_no_private_part() -> None:
    key = new_private_key()
    assert key.hex() not in json.dumps(key_set(key))
    assert key_set(key)["keys"][0].keys() == {"kty", "crv", "x", "kid", "use", "alg"}
