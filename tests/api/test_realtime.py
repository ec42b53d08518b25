"""Edits over a websocket."""

from __future__ import annotations

import json
import time
from typing import Any

import msgpack
import pytest
from tests.api.conftest import APP, Server, an_input
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from hidream_edit.domain.job import JobState


def opened(server: Server, query: str = "", **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{APP}/realtime{query}", proxy=None, max_size=None, **options)


def test_several_edits_go_over_one_connection_in_their_order(server: Server) -> None:
    with opened(server) as socket:
        for seed in (1, 2, 3):
            socket.send(msgpack.packb(an_input(seed=seed)))
        answers = [msgpack.unpackb(socket.recv()) for _ in range(3)]
    assert [answer["seed"] for answer in answers] == [1, 2, 3]
    assert server.client.get(answers[0]["images"][0]["url"]).status_code == 200


def test_a_text_message_is_answered_in_text(server: Server) -> None:
    with opened(server) as socket:
        socket.send(json.dumps(an_input()))
        answer = socket.recv()
    assert isinstance(answer, str)
    assert json.loads(answer)["images"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (msgpack.packb(an_input(num_images=9)), "INVALID_INPUT"),
        (msgpack.packb(an_input(edit_instruction="fail")), "INTERNAL_SERVER_ERROR"),
        (msgpack.packb(an_input(image_url="data:,x")), "IMAGE_LOAD_ERROR"),
        (msgpack.packb([1, 2]), "INVALID_MESSAGE"),
        (b"\xc1", "INVALID_MESSAGE"),
        ("{", "INVALID_MESSAGE"),
    ],
)
def test_what_goes_wrong_is_told_and_the_connection_stays(server: Server, message: bytes | str, error: str) -> None:
    with opened(server) as socket:
        socket.send(message)
        told = json.loads(socket.recv())
        assert (told["type"], told["error"]) == ("x-fal-error", error)
        socket.send(msgpack.packb(an_input()))
        assert msgpack.unpackb(socket.recv())["images"]


def test_leaving_cancels_the_edit_that_runs(slow_server: Server) -> None:
    with opened(slow_server) as socket:
        socket.send(msgpack.packb(an_input()))
        while not [job for job in slow_server.store.changed_since(0) if job.state is JobState.RUNNING]:
            time.sleep(0.01)
    deadline = time.monotonic() + 5
    while slow_server.store.changed_since(0)[-1].state is not JobState.CANCELLED:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_silent_connection_is_ended_with_a_word(server: Server) -> None:
    with opened(server) as socket:
        assert json.loads(socket.recv(timeout=10))["error"] == "TIMEOUT"
        with pytest.raises(ConnectionClosedOK):
            socket.recv(timeout=10)


def test_nobody_gets_in_without_a_key_once_there_are_keys(server: Server) -> None:
    credential = server.new_key()
    with pytest.raises(InvalidStatus):
        opened(server)
    headers = {"authorization": f"Key {credential}"}
    token = server.client.post("/tokens/", json={"token_expiration": 60}, headers=headers).json()
    for options in ({"query": f"?fal_jwt_token={token}"}, {"additional_headers": headers}):
        with opened(server, **options) as socket:
            socket.send(msgpack.packb(an_input()))
            assert msgpack.unpackb(socket.recv())["images"]


def test_an_unknown_app_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{server.port}/fal-ai/other/realtime", proxy=None)
