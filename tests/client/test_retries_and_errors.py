"""What the client does when the network or the server does not: nothing sleeps, nothing listens."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from datetime import UTC, datetime

import httpx
import pytest
from tests.api.conftest import picture_bytes
from tests.client.conftest import (
    KEY,
    REQUEST_ID,
    URL,
    Remote,
    answer,
    completed,
    line,
    name_of,
    output,
    queued,
    running,
    sse,
)

from hidream_edit.client import (
    AsyncClient,
    Cancelled,
    Client,
    ClientError,
    EditFailed,
    InputRefused,
    NotAllowed,
    NotReachable,
    Preview,
    Queued,
    RequestNotFound,
    TimedOut,
    retries,
)

PICTURE = picture_bytes()


def fresh_lost() -> httpx.ReadError:
    return httpx.ReadError("connection reset")


def test_a_submit_whose_answer_is_lost_is_sent_again_under_the_same_id(remote: Remote) -> None:
    remote.before["submit"] = [fresh_lost()]
    with remote.client() as client:
        client.edit(PICTURE, "make it night")
    first, second = remote.named("submit")
    assert first.headers["x-fal-idempotency-key"] == second.headers["x-fal-idempotency-key"]
    assert first.content == second.content
    assert remote.slept[0] == 0.5


def test_two_submits_carry_two_ids(remote: Remote) -> None:
    with remote.client() as client:
        client.submit(PICTURE, "make it night")
        client.submit(PICTURE, "make it night")
    assert len({request.headers["x-fal-idempotency-key"] for request in remote.named("submit")}) == 2


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_passing_trouble_is_waited_out(remote: Remote, status: int) -> None:
    remote.before["submit"] = [answer(status), answer(status)]
    with remote.client() as client:
        client.submit(PICTURE, "make it night")
    assert remote.slept == [0.5, 1.0]


def test_the_server_says_how_long_to_wait(remote: Remote) -> None:
    remote.before["submit"] = [answer(429, {"retry-after": "7"})]
    with remote.client() as client:
        client.submit(PICTURE, "make it night")
    assert remote.slept == [7.0]


def test_a_wait_of_hours_is_left_to_the_program(remote: Remote) -> None:
    remote.before["submit"] = [answer(429, {"retry-after": "7200"}, detail="60 a minute are allowed")]
    with remote.client() as client, pytest.raises(ClientError, match=r"60 a minute are allowed.*try again later"):
        client.submit(PICTURE, "make it night")
    assert remote.slept == []


def test_a_date_to_wait_for_is_understood() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    headers = httpx.Headers({"retry-after": "Thu, 01 Jan 2026 00:00:05 GMT"})
    assert retries.retry_after(headers, otherwise=1.0, now=now) == 5.0
    assert retries.retry_after(httpx.Headers({"retry-after": "soon"}), otherwise=1.0) == 1.0


def test_pauses_double_and_keep_apart() -> None:
    assert [retries.pause(attempt, 0.5) for attempt in (1, 2, 3, 9)] == [0.5, 1.0, 2.0, 16.0]
    assert (retries.pause(1, 0.0), retries.pause(1, 1.0)) == (0.375, 0.625)


def test_a_server_that_is_not_there_is_given_up_after_a_few_attempts(remote: Remote) -> None:
    remote.before["initiate"] = [httpx.ConnectError("refused")] * 9
    with remote.client() as client, pytest.raises(NotReachable, match=r"edits\.example cannot be reached.*serve"):
        client.edit(PICTURE, "make it night")
    assert len(remote.calls) == retries.ATTEMPTS


def test_a_server_that_goes_while_it_edits_is_waited_for_and_keeps_the_request(remote: Remote) -> None:
    remote.before["status"] = [queued(0), *[fresh_lost()] * 99]
    with remote.client() as client, pytest.raises(NotReachable, match=f"result\\('{REQUEST_ID}'\\)") as caught:
        client.edit(PICTURE, "make it night")
    assert caught.value.request_id == REQUEST_ID
    assert not remote.named("cancel")


def test_a_restart_of_the_server_goes_unnoticed(remote: Remote) -> None:
    remote.before["status"] = [queued(0), httpx.ConnectError("refused"), answer(503), running(), completed()]
    remote.before["result"] = [fresh_lost()]
    remote.before["file"] = [answer(502)]
    with remote.client() as client:
        assert client.edit(PICTURE, "make it night").seed == 7


def test_a_stream_is_never_sent_twice(remote: Remote) -> None:
    remote.before["stream"] = [fresh_lost()]
    with remote.client() as client, pytest.raises(NotReachable):
        list(client.stream(PICTURE, "make it night"))
    assert len(remote.named("stream")) == 1


def test_how_a_request_ended_is_not_asked_twice(remote: Remote) -> None:
    ended = {"detail": "the runner was lost", "error_type": "runner_disconnected"}
    remote.before["result"] = [httpx.Response(503, headers={"x-fal-needs-retry": "0"}, json=ended)]
    with remote.client() as client, pytest.raises(EditFailed, match="the runner was lost") as caught:
        client.edit(PICTURE, "make it night")
    assert caught.value.kind == "runner_disconnected"
    assert len(remote.named("result")) == 1


DETAIL = {"loc": ["body", "seed"], "msg": "Input should be a valid integer", "type": "int_parsing"}
FAILED = {"loc": ["body"], "msg": "it broke", "type": "internal_server_error"}


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (answer(401, detail="no"), NotAllowed, "does not know this key"),
        (answer(403, detail="This file needs the key of its owner"), NotAllowed, "needs the key of its owner"),
        (answer(404, status="NOT_FOUND"), RequestNotFound, "kept for a day"),
        (answer(422, detail=[DETAIL]), InputRefused, "seed: Input should be a valid integer"),
        (answer(422, detail="wrong"), InputRefused, "wrong"),
        (answer(499, detail="x", error_type="client_cancelled"), Cancelled, "was cancelled"),
        (
            httpx.Response(504, headers={"x-fal-request-timeout-type": "user"}, json={"error_type": "request_timeout"}),
            TimedOut,
            "start_timeout",
        ),
        (answer(500, detail=[FAILED]), EditFailed, "it broke"),
        (answer(500, detail="Internal Server Error"), ClientError, "answered 500: Internal Server Error"),
        (httpx.Response(400, text="what?"), ClientError, "answered 400: what"),
        (httpx.Response(418), ClientError, "answered 418: nothing more"),
        (
            httpx.Response(308, headers={"location": "https://edits.example/x?token=1"}),
            ClientError,
            "give that address",
        ),
        (httpx.Response(200, text="<html>"), ClientError, "does not answer as a hidream-edit server"),
        (answer(200, images=[]), ClientError, "cannot be read"),
    ],
)
def test_every_answer_becomes_the_error_that_says_what_to_do(
    remote: Remote, reply: httpx.Response, error: type[ClientError], message: str
) -> None:
    remote.before["result"] = [reply]
    with remote.client() as client, pytest.raises(error, match=message) as caught:
        client.result(REQUEST_ID)
    assert type(caught.value) is error
    assert "token" not in str(caught.value)


def test_all_errors_have_one_base() -> None:
    for error in (NotReachable, NotAllowed, InputRefused, EditFailed, Cancelled, TimedOut, RequestNotFound):
        assert issubclass(error, ClientError)


def test_a_state_of_a_newer_server_is_named(remote: Remote) -> None:
    remote.before["status"] = [httpx.Response(202, json={"status": "DREAMING"})]
    with remote.client() as client, pytest.raises(ClientError, match=r"'DREAMING'.*update"):
        client.status(REQUEST_ID)


def test_a_wait_beyond_the_timeout_cancels_the_request(remote: Remote) -> None:
    remote.before["status"] = [queued(3) for _ in range(99)]
    with remote.client(timeout=2) as client, pytest.raises(TimedOut, match="2 seconds"):
        client.edit(PICTURE, "make it night")
    assert len(remote.named("cancel")) == 1
    assert 2 < remote.now < 3


def test_polls_become_rarer(remote: Remote) -> None:
    remote.before["status"] = [queued(0) for _ in range(9)]
    with remote.client() as client:
        client.edit(PICTURE, "make it night")
    assert remote.slept[0] == 0.1
    assert remote.slept == sorted(remote.slept)
    assert remote.slept[-1] == 0.5


def test_a_cancel_that_cannot_be_delivered_hides_no_error(remote: Remote) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    remote.before["cancel"] = [fresh_lost()]
    with remote.client() as client, pytest.raises(KeyboardInterrupt):
        client.subscribe(PICTURE, "make it night", on_queued=interrupt)


class Interrupted(httpx.BaseTransport):
    """Ctrl-C while the first submit is under way; its request has arrived."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answered = self._remote.answer(request)
        if len(self._remote.named("submit")) == 1 and name_of(request) == "submit":
            raise KeyboardInterrupt
        return answered


def test_an_interrupted_submit_leaves_no_request_behind(remote: Remote) -> None:
    with Client(URL, transport=Interrupted(remote)) as client, pytest.raises(KeyboardInterrupt):
        client.edit(PICTURE, "make it night")
    first, second = remote.named("submit")
    assert first.headers["x-fal-idempotency-key"] == second.headers["x-fal-idempotency-key"]
    assert len(remote.named("cancel")) == 1


def test_each_status_is_told_once(remote: Remote) -> None:
    told: list[object] = []
    remote.before["status"] = [queued(1), queued(1), queued(0), running(), running(line("step 1 of 2")), running()]
    with remote.client() as client:
        client.subscribe(PICTURE, "make it night", on_update=told.append)
    assert told[:2] == [Queued(REQUEST_ID, 1), Queued(REQUEST_ID, 0)]
    assert len(told) == 6


def test_warnings_of_the_server_come_with_the_edit(remote: Remote) -> None:
    remote.before["status"] = [completed(line("step 1 of 1"), line("unknown words", "WARN"))]
    with remote.client() as client:
        assert client.edit(PICTURE, "make it night").warnings == ("unknown words",)


def test_the_body_carries_the_names_of_the_wire(remote: Remote) -> None:
    with remote.client() as client:
        client.submit(
            PICTURE, "make it night", description="a night", steps=3, safety_checker=False, priority="low",
            start_timeout=5, num_images=None,
        )  # fmt: skip
    request = remote.named("submit")[0]
    assert json.loads(request.content) == {
        "image_url": f"{URL}/files/b/0/file.png",
        "edit_instruction": "make it night",
        "target_image_description": "a night",
        "num_inference_steps": 3,
        "enable_safety_checker": False,
    }
    assert request.headers["x-fal-queue-priority"] == "low"
    assert request.headers["x-fal-request-start-timeout"] == "5"
    assert request.headers["authorization"] == f"Key {KEY}"


def test_a_picture_on_the_web_is_not_uploaded(remote: Remote) -> None:
    with remote.client() as client:
        edit = client.edit("https://photos.example/a.jpg", "make it night")
    assert json.loads(remote.named("submit")[0].content)["image_url"] == "https://photos.example/a.jpg"
    assert not remote.named("initiate")
    assert edit.source is None


def test_an_upload_knows_name_and_type(remote: Remote) -> None:
    with remote.client() as client:
        client.upload(PICTURE)
    assert json.loads(remote.named("initiate")[0].content) == {"content_type": "image/png", "file_name": "picture"}
    assert remote.named("put")[0].headers["content-type"] == "image/png"
    assert remote.named("put")[0].content == PICTURE


def test_an_upload_that_is_refused_says_why(remote: Remote) -> None:
    remote.before["put"] = [answer(413, detail="this key may store 10 bytes")]
    with remote.client() as client, pytest.raises(ClientError, match="may store 10 bytes"):
        client.upload(PICTURE)


@pytest.mark.parametrize(
    ("picture", "message"),
    [("gone.jpg", "cannot read gone.jpg"), (b"", "is empty"), ("data:x", "no comma"), ("data:;base64,?", "not valid")],
)
def test_what_cannot_be_sent_is_refused_before_any_call(remote: Remote, picture: str | bytes, message: str) -> None:
    with remote.client() as client, pytest.raises(InputRefused, match=message) as caught:
        client.edit(picture, "make it night")
    assert caught.value.field == "image_url"
    assert remote.calls == []


def test_a_number_that_is_none_is_refused_before_the_submit(remote: Remote) -> None:
    with remote.client() as client, pytest.raises(InputRefused, match="finite"):
        client.edit(PICTURE, "make it night", guidance_scale=float("nan"))
    assert not remote.named("submit")


def test_what_is_no_picture_at_all_is_a_type_error(remote: Remote) -> None:
    with remote.client() as client, pytest.raises(TypeError, match="not int"):
        client.edit(3, "make it night")  # type: ignore[arg-type]


def test_what_is_no_id_leads_nowhere(remote: Remote) -> None:
    with remote.client() as client, pytest.raises(ClientError, match="no request id"):
        client.cancel("../../admin")
    assert remote.calls == []


def test_a_stream_of_events_is_read_to_its_last(remote: Remote) -> None:
    preview = output("data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")  # fmt: skip # noqa: E501
    remote.before["stream"] = [sse(preview | {"timings": {}}, output())]
    with remote.client() as client:
        told = list(client.stream(PICTURE, "make it night"))
    assert isinstance(told[0], Preview)
    assert told[1].request_id == REQUEST_ID


def test_a_stream_that_ends_too_early_is_no_success(remote: Remote) -> None:
    remote.before["stream"] = [sse()]
    with remote.client() as client, pytest.raises(NotReachable, match="ended before the edit"):
        list(client.stream(PICTURE, "make it night"))


@pytest.mark.parametrize("event", ["nonsense", "[]", '{"images": []}'])
def test_an_event_that_is_none_is_said_to_be_that(remote: Remote, event: str) -> None:
    remote.before["stream"] = [httpx.Response(200, text=f"data: {event}\n\n")]
    with remote.client() as client, pytest.raises(ClientError, match="the server sent"):
        list(client.stream(PICTURE, "make it night"))


def test_the_key_goes_to_its_own_server_only(remote: Remote) -> None:
    remote.before["result"] = [answer(**output("https://files.elsewhere.example/files/b/1/image.png"))]
    with remote.client() as client:
        client.edit(PICTURE, "make it night")
    assert "authorization" not in remote.named("file")[0].headers
    assert "authorization" not in remote.named("put")[0].headers
    assert all("authorization" in remote.named(name)[0].headers for name in ("initiate", "submit", "status", "result"))


def test_the_key_is_in_no_text(remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "httpx"), remote.client() as client:
        assert repr(client) == f"Client('{URL}', app='fal-ai/hidream-e1-full')"
        client.edit(PICTURE, "make it night")
        remote.before["result"] = [answer(400, detail=f"Authorization: Key {KEY}")]
        with pytest.raises(ClientError) as caught:
            client.result(REQUEST_ID)
        told = "".join(traceback.format_exception(caught.value))
    texts = [told, repr(client._talks), repr(vars(caught.value)), caplog.text]
    assert not any(KEY in text or "token=" in text for text in texts)
    assert "HTTP Request: PUT" in caplog.text


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_what_cannot_be_a_key_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        Client(URL, key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://x", "begins with http"),
        ("http://", "begins with http"),
        ("http://a:b@x", "key="),
        ("http://x:port", "malformed"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, message: str) -> None:
    with pytest.raises(ClientError, match=message):
        Client(address)


def test_an_app_is_an_owner_and_a_name() -> None:
    with pytest.raises(ClientError, match="owner/name"):
        Client(URL, app="hidream")


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repr(Client()).startswith("Client('http://127.0.0.1:8000'")
    monkeypatch.setenv("HIDREAM_EDIT_URL", "gpu.example:9000/")
    monkeypatch.setenv("FAL_KEY", "second")
    client = Client()
    assert repr(client).startswith("Client('http://gpu.example:9000'")
    assert client._talks.server.key == "second"
    monkeypatch.setenv("HIDREAM_EDIT_KEY", "first\n")
    assert Client()._talks.server.key == "first"
    assert Client(key="given")._talks.server.key == "given"


def test_the_asynchronous_client_tries_again_in_the_same_way() -> None:
    remote, slept = Remote(before={"submit": [fresh_lost(), answer(503)]}), []

    async def program() -> int:
        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        transport = httpx.MockTransport(remote.answer)
        async with AsyncClient(URL, KEY, transport=transport, sleep=sleep, chance=lambda: 0.5) as client:
            assert KEY not in repr(client)
            return (await client.edit(PICTURE, "make it night")).seed

    assert asyncio.run(program()) == 7
    assert slept == [0.5, 1.0]
    assert len({request.headers["x-fal-idempotency-key"] for request in remote.named("submit")}) == 1


def test_what_json_cannot_say_is_refused_before_the_submit(remote: Remote) -> None:
    with remote.client() as client, pytest.raises(InputRefused, match="cannot be sent as JSON"):
        client.submit(PICTURE, "make it night", seed=object())  # type: ignore[arg-type]
    assert remote.named("submit") == []


def test_a_picture_that_was_deleted_meanwhile_is_said_to_be_gone(remote: Remote) -> None:
    remote.before["file"] = [httpx.Response(404)]
    with remote.client() as client, pytest.raises(ClientError, match="cannot be fetched") as told:
        client.edit(PICTURE, "make it night")
    assert told.value.request_id == REQUEST_ID


def test_a_stream_that_says_error_ends_as_the_request_did(remote: Remote) -> None:
    detail = {"loc": ["body", "image_url"], "msg": "no picture", "type": "image_load_error"}
    remote.before["stream"] = [sse({"error": "it failed"})] * 2
    remote.before["result"] = [answer(422, detail=[detail])]
    with remote.client() as client:
        with pytest.raises(InputRefused, match="no picture"):
            list(client.stream(PICTURE, "make it night"))
        with pytest.raises(EditFailed, match="it failed") as told:  # the server knows no more of it
            list(client.stream(PICTURE, "make it night"))
    assert (told.value.kind, told.value.request_id) == ("stream_error", REQUEST_ID)


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (fresh_lost(), NotReachable, "cannot be reached"),
        (httpx.Response(200, text=": ping\n\n"), NotReachable, "ended before the edit"),
        (answer(401, detail="no key"), NotAllowed, "does not know this key"),
    ],
)
def test_the_asynchronous_client_loses_a_stream_with_the_same_errors(
    reply: httpx.Response | Exception, error: type[ClientError], words: str
) -> None:
    remote = Remote(before={"stream": [reply]})

    async def program() -> None:
        async with AsyncClient(URL, KEY, transport=httpx.MockTransport(remote.answer)) as client:
            async for _ in client.stream(PICTURE, "make it night"):
                pass

    with pytest.raises(error, match=words):
        asyncio.run(program())
