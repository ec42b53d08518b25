"""Files, folders, data URIs, standard input and web addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import httpcore
import pytest
from tests.support.web import Web, answer

from hidream_edit.domain.errors import FetchFailed, PictureTooLarge, PictureUnreadable
from hidream_edit.pictures import sources


def test_a_folder_becomes_its_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert sources.expand([str(tmp_path), "-"]) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.PNG"), "-"]


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(PictureUnreadable, match="no pictures in"):
        sources.expand([str(tmp_path)])


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(PictureUnreadable, match="No such file"):
        sources.read(str(tmp_path / "gone.jpg"))


def test_no_source_may_be_larger_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    for source in (str(tmp_path / "large"), "data:;base64," + base64.b64encode(bytes(11)).decode()):
        with pytest.raises(PictureTooLarge):
            sources.read(source, bytes_max=10)
    with pytest.raises(PictureTooLarge):
        sources.read(
            "http://127.0.0.1/large", connect_to=Web({"127.0.0.1": answer(body=bytes(11))}).connect, bytes_max=10
        )


def test_standard_input_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"bytes")))
    assert sources.read("-") == b"bytes"


@pytest.mark.parametrize(
    ("uri", "data"),
    [
        ("data:image/png;base64,AAEC", b"\0\1\2"),
        ("DATA:;BASE64,AA%45C", b"\0\x01\x02"),
        ("data:image/png;base64,AA\nEC", b"\0\1\2"),
        ("data:,a%20b", b"a b"),
    ],
)
def test_data_uris_in_all_their_forms(uri: str, data: bytes) -> None:
    assert sources.read(uri) == data


@pytest.mark.parametrize("uri", ["data:image/png;base64", "data:image/png;base64,A", "data:;base64,@@@@"])
def test_a_malformed_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(PictureUnreadable, match="data URI"):
        sources.read(uri)


def test_an_address_is_fetched_also_one_of_this_machine() -> None:
    web = Web({"127.0.0.1": answer(body=b"picture")})
    assert sources.read("http://127.0.0.1/a.jpg", connect_to=web.connect) == b"picture"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer(404), "answered 404"),
        (httpcore.ConnectError("refused"), "could not be fetched"),
        (httpcore.ReadTimeout("slow"), "could not be fetched"),
    ],
)
def test_an_address_without_a_picture_fails_without_showing_its_query(reply: bytes | Exception, words: str) -> None:
    def connect(address: str, port: int, seconds_max: float | None) -> httpcore.NetworkStream:
        if isinstance(reply, Exception):
            raise reply
        return Web({"127.0.0.1": reply}).connect(address, port, seconds_max)

    with pytest.raises(FetchFailed, match=words) as caught:
        sources.read("http://127.0.0.1/a.jpg?key=secret", connect_to=connect)
    assert "secret" not in str(caught.value)
