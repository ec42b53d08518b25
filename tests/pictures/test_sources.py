"""Files, folders, data URIs, standard input and web addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from hidream_edit.domain.errors import FetchFailed, PictureTooLarge, PictureUnreadable
from hidream_edit.pictures import sources


def client_for(answer: httpx.Response | Exception) -> httpx.Client:
    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.Client(transport=httpx.MockTransport(handle))


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
    with client_for(httpx.Response(200, content=bytes(11))) as client, pytest.raises(PictureTooLarge):
        sources.read("http://test/large", client=client, bytes_max=10)


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


def test_an_address_is_fetched() -> None:
    with client_for(httpx.Response(200, content=b"picture")) as client:
        assert sources.read("https://test/a.jpg", client=client) == b"picture"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404), "answered 404"),
        (httpx.ConnectError("refused"), "could not be fetched"),
        (httpx.ReadTimeout("slow"), "could not be fetched"),
    ],
)
def test_an_address_without_a_picture_fails_without_showing_its_query(
    answer: httpx.Response | Exception, words: str
) -> None:
    with client_for(answer) as client, pytest.raises(FetchFailed, match=words) as caught:
        sources.read("https://test/a.jpg?key=secret", client=client)
    assert "secret" not in str(caught.value)
