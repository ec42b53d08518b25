"""Downloads that strangers ask for."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.support.web import PUBLIC, Web, answer

from hidream_edit.domain.errors import FetchFailed, PictureTooLarge
from hidream_edit.outgoing.addresses import is_reachable
from hidream_edit.outgoing.download import DownloadLimits, download


def get(web: Web, url: str, **limits: object) -> bytes:
    settings = DownloadLimits(**limits)  # type: ignore[arg-type]
    return download(url, limits=settings, resolve_host=web.resolve, connect_to=web.connect)


def test_a_public_address_is_downloaded_from_the_very_address_that_was_checked() -> None:
    web = Web({"pictures.test": answer(body=b"picture")})
    assert get(web, "https://pictures.test/a.jpg?size=1") == b"picture"
    assert web.connected == [PUBLIC]
    assert web.requests[0].startswith(b"GET /a.jpg?size=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255",
        "192.0.2.1", "192.0.0.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1",
        "::1", "::", "fe80::1%eth0", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001::1",
        "2001:db8::1", "3fff::1", "100::1", "5f00::1", "nonsense", "",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_never_connected(address: str) -> None:
    assert not is_reachable(address)
    web = Web({"inside.test": answer(body=b"secret")}, {"inside.test": [PUBLIC, address]})
    with pytest.raises(FetchFailed):
        get(web, "http://inside.test/")
    assert web.connected == []


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1", "::ffff:8.8.8.8", "2002:808:808::1"])
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_reachable(address)


def test_the_owner_may_allow_a_network() -> None:
    web = Web({"nas.test": answer(body=b"x")}, {"nas.test": ["192.168.1.5"]})
    assert get(web, "http://nas.test/", allowed=("192.168.1.0/24",)) == b"x"
    inside = Web({"v6.test": answer(body=b"y")}, {"v6.test": ["::ffff:192.168.1.5"]})
    assert get(inside, "http://v6.test/", allowed=("192.168.1.0/24",)) == b"y"


def test_a_name_server_that_answers_public_first_and_private_second_is_asked_once() -> None:
    web = Web({"rebinding.test": answer(body=b"picture")})
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    data = download(
        "http://rebinding.test/",
        limits=DownloadLimits(),
        resolve_host=lambda _, __: next(answers),
        connect_to=web.connect,
    )
    assert (data, web.connected) == (b"picture", [PUBLIC])


def test_every_redirect_is_checked_again() -> None:
    web = Web({"out.test": answer(302, location="http://in.test/"), "in.test": answer()}, {"in.test": ["127.0.0.1"]})
    with pytest.raises(FetchFailed):
        get(web, "http://out.test/")
    assert web.connected == [PUBLIC]


def test_redirects_are_followed_but_not_for_ever() -> None:
    web = Web({"a.test": answer(301, location="//b.test/"), "b.test": answer(body=b"b")})
    assert get(web, "http://a.test/") == b"b"
    round_trip = Web({"a.test": answer(301, location="/again")})
    with pytest.raises(FetchFailed):
        get(round_trip, "http://a.test/")
    assert len(round_trip.requests) == 6


def test_failures_all_look_the_same() -> None:
    texts = set()
    for web in (
        Web({"a.test": answer(404)}),
        Web({"a.test": answer(500, b"secret stack trace")}),
        Web({"a.test": b"SSH-2.0-OpenSSH_9.6\r\n"}),
        Web({"a.test": b""}),
        Web({"a.test": answer(302, location="http://[::1]/")}),
        Web({"a.test": answer(302, location="file:///etc/passwd")}),
        Web({}, {"a.test": ["127.0.0.1"]}),
        Web({}, {"a.test": []}),
    ):
        with pytest.raises(FetchFailed) as caught:
            get(web, "http://a.test/")
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_a_body_over_the_cap_is_cut_off() -> None:
    web = Web({"a.test": answer(body=bytes(1000))})
    with pytest.raises(PictureTooLarge):
        get(web, "http://a.test/", bytes_max=999)
    assert len(get(web, "http://a.test/", bytes_max=1000)) == 1000


def test_a_body_that_unfolds_to_a_bomb_is_cut_at_the_cap_and_never_held_whole() -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(200_000_000), 9)
    web = Web({"a.test": answer(body=bomb, content_encoding="gzip")})
    tracemalloc.start()
    with pytest.raises(PictureTooLarge):
        get(web, "http://a.test/", bytes_max=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_compressed_body_within_the_cap_is_unfolded_and_strange_encodings_are_refused() -> None:
    web = Web({"a.test": answer(body=gzip.compress(b"picture"), content_encoding="gzip")})
    assert get(web, "http://a.test/") == b"picture"
    for encoding, body in (("br", b"x"), ("gzip", b"not gzip"), ("gzip, gzip", b"x")):
        with pytest.raises(FetchFailed):
            get(Web({"a.test": answer(body=body, content_encoding=encoding)}), "http://a.test/")


def test_headers_without_end_are_refused() -> None:
    web = Web({"a.test": b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 300_000})
    with pytest.raises(FetchFailed):
        get(web, "http://a.test/")


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Address of a server that does what ``talk`` says with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    talk(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def drip(first: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.02)

    return talk


def silence(connection: socket.socket) -> None:
    connection.settimeout(3)
    connection.recv(1)


@pytest.mark.parametrize(
    "talk",
    [
        drip(b"HTTP/1.1 200 OK\r\nx: "),
        drip(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
        silence,
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"),
    ],
    ids=["headers drip", "body drips", "silent", "shorter than it said"],
)
def test_a_server_that_takes_its_time_or_lies_is_left_at_the_deadline(talk: Callable[[socket.socket], None]) -> None:
    with talking(talk) as url:
        began = time.monotonic()
        with pytest.raises(FetchFailed):
            download(url, limits=DownloadLimits(seconds_max=0.3, allowed=("127.0.0.0/8",)))
        assert time.monotonic() - began < 1.5


def test_a_body_without_end_is_cut_at_the_cap() -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    with talking(endless) as url, pytest.raises(PictureTooLarge):
        download(url, limits=DownloadLimits(bytes_max=3_000_000, allowed=("127.0.0.0/8",)))
