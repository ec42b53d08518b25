"""The describer, against a fake server on loopback."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpcore
import pytest
from tests.support.describer_server import LINES, FakeServer, completion

from hidream_edit.describer.describer import Describer
from hidream_edit.domain.errors import DescriberFailed
from hidream_edit.domain.picture import Picture
from hidream_edit.outgoing.client import connect
from hidream_edit.pictures.decode import decode

PICTURE = Picture(30, 20, bytes(1800))


@pytest.fixture
def describer(fake_describer: FakeServer) -> Iterator[Describer]:
    made = Describer(fake_describer.address, model="seer", key="secret-key", timeout_seconds=5)
    yield made
    made.close()


def test_three_lines_become_a_description(describer: Describer, fake_describer: FakeServer) -> None:
    answer = describer.describe(PICTURE, "white please")
    assert (answer.source, answer.instruction, answer.target) == tuple(LINES.split("\n"))
    assert fake_describer.path == "/v1/chat/completions"
    assert fake_describer.headers["Authorization"] == "Bearer secret-key"


def test_the_model_sees_instruction_and_picture_as_the_editor_will(
    describer: Describer, fake_describer: FakeServer
) -> None:
    describer.describe(PICTURE, "white please")
    image, text = fake_describer.body["messages"][0]["content"]
    assert "white please" in text["text"]
    picture = decode(base64.b64decode(image["image_url"]["url"].partition(",")[2]))
    assert picture.size == (768, 768)
    assert fake_describer.body["model"] == "seer"


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (200, completion("one line only"), "1 lines instead of 3"),
        (200, completion(None), "no text"),
        (200, {"unexpected": True}, "not a chat completion"),
        (200, [], "not a chat completion"),
        (401, {}, "answered 401"),
        (500, {}, "answered 500"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why_and_shows_no_key(
    describer: Describer, fake_describer: FakeServer, status: int, answer: object, words: str
) -> None:
    fake_describer.status, fake_describer.answer = status, answer
    with pytest.raises(DescriberFailed, match=words) as caught:
        describer.describe(PICTURE, "x")
    assert "secret-key" not in str(caught.value)


def test_blank_lines_between_the_three_do_not_matter(describer: Describer, fake_describer: FakeServer) -> None:
    fake_describer.answer = completion("\n" + LINES.replace("\n", "\n\n") + "\n")
    assert describer.describe(PICTURE, "x").target == "A white square."


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpcore.ConnectError("refused"), "cannot be reached"),
        (httpcore.ConnectTimeout("slow"), "took too long"),
        (httpcore.ReadError("cut"), "broke off"),
    ],
)
def test_a_server_that_does_not_answer_is_named_as_such(failure: Exception, words: str) -> None:
    def fail(*_: object) -> httpcore.NetworkStream:
        raise failure

    describer = Describer("http://127.0.0.1", model="seer", connect_to=fail)
    with pytest.raises(DescriberFailed, match=words):
        describer.describe(PICTURE, "x")
    describer.close()


def test_a_refused_connection_is_tried_once_more(fake_describer: FakeServer) -> None:
    calls = []

    def second_time(address: str, port: int, seconds_max: float | None) -> httpcore.NetworkStream:
        calls.append(1)
        if len(calls) == 1:
            raise httpcore.ConnectError("refused")
        return connect(address, port, seconds_max)

    describer = Describer(fake_describer.address, model="seer", connect_to=second_time)
    assert describer.describe(PICTURE, "x").source == "A dark square."
    describer.close()
