"""A corpus of addresses that a stranger might try, in every place that takes one. What counts is what the operating
system is asked: no socket to an address that was to be refused."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.web import PUBLIC, Web, answer

from hidream_edit.domain.deliveries import Delivery
from hidream_edit.domain.errors import FetchFailed
from hidream_edit.domain.job import Failure, NewJob
from hidream_edit.outgoing.download import DownloadLimits, download
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.webhooks.sender import WebhookSender
from hidream_edit.webhooks.signing import new_private_key

LOOPBACK = [
    "127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "0177.0.0.1", "0177.1", "017700000001", "0x7f.0.0.1", "0x7f.1",
    "0x7f000001", "0X7F000001", "2130706433", "127.255.255.254", "127.0.0.1.", "0", "0.0.0.0", "00.00.00.00", "0x0",
    "localhost", "LOCALHOST", "localhost.", "LocalHost.localdomain", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]",
    "[0000::0001]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[::127.0.0.1]", "[::7f00:1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:0001::1]", "[::1%25lo]", "[::1%lo]",
    "127.0.0.1%00", "127。0。0。1", "①②⑦.⓪.⓪.①", "\uff11\uff12\uff17.0.0.1", "loca\u200blhost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "10.255.255.255", "10.1", "0xa.0.0.1", "012.0.0.1", "167772161", "172.16.0.1", "172.31.255.254",
    "172.16.1", "0xac.0x10.0.1", "2886729729", "192.168.0.1", "192.168.1.1", "192.168.257", "0xc0.0xa8.0.1",
    "0300.0250.0.1", "3232235521", "[fc00::1]", "[fd00::1]", "[fdff:ffff::1]", "[fec0::1]", "[::ffff:10.0.0.1]",
    "[::ffff:192.168.0.1]", "[::ffff:ac10:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::a00:1]", "[2002:a00:1::1]",
    "[2002:c0a8:101::]", "[::10.0.0.1]",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.43518", "169.16689662", "0xa9.0xfe.0xa9.0xfe", "0xa9fea9fe", "0251.0376.0251.0376",
    "2852039166", "025177524776", "169.254.169.254.", "169.254.170.2", "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "100.100.100.200", "192.0.0.192",
    "169.254.0.1", "[fe80::1]", "[fe80::1%25eth0]", "[fe80::a9fe:a9fe]",
]  # fmt: skip
SPECIAL = [
    "100.64.0.1", "100.127.255.254", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255",
    "192.0.0.8", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "0.0.0.1",
    "[ff02::1]", "[ff05::2]", "[100::1]", "[2001:db8::1]", "[2001::1]", "[2001:10::1]", "[3fff::1]", "[5f00::1]",
    "[64:ff9b::]",
]  # fmt: skip
HOSTS = LOOPBACK + PRIVATE + METADATA + SPECIAL
INSIDE = [f"http://{host}/" for host in HOSTS]
TRICKS = [
    "http://example.com@127.0.0.1/", "http://example.com:80@127.0.0.1/", "http://93.184.216.34@10.0.0.1/",
    "http://user:pass@[::1]/",  # pragma: allowlist secret
    "http://127.0.0.1#@example.com/", "http://127.0.0.1?@example.com/",
    "http://127.0.0.1\\@example.com/", "http://127.0.0.1:80\\@example.com/", "http://example.com\\@127.0.0.1/",
    "http:\\\\127.0.0.1/", "http:/127.0.0.1/", "http:127.0.0.1", "http:///127.0.0.1/", "http:////127.0.0.1/",
    " http://127.0.0.1/", "http://127.0.0.1 /", "http://127.0.0.1\t/", "http://127.0.0.1\r\nHost: x/", "http://\x00127.0.0.1/",
    "HTTP://127.0.0.1/", "https://127.0.0.1/", "https://localhost/", "http://127.0.0.1:22/", "http://127.0.0.1:6379/",
    "http://127.0.0.1:65535/", "http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/",
    "http://127.0.0.1:80:80/", "http://[::1]:5432/", "http://[127.0.0.1]/", "http://[::1/", "http://::1/", "http://[/",
    "http://", "http://?", "http://#", "https://:443/", "//127.0.0.1/", "///127.0.0.1", "127.0.0.1", "localhost:80",
    "file:///etc/passwd", "file://127.0.0.1/etc/passwd", "ftp://127.0.0.1/", "ftp://example.com/", "gopher://127.0.0.1:70/_x",
    "dict://127.0.0.1:11211/stats", "ldap://127.0.0.1/", "tftp://127.0.0.1/", "sftp://127.0.0.1/", "smb://127.0.0.1/x",
    "jar:http://127.0.0.1!/", "javascript:alert(1)", "about:blank", "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "ws://127.0.0.1/", "wss://127.0.0.1/", "view-source:http://127.0.0.1/",
    "netdoc:///etc/passwd", "php://filter", "expect://id", "", "/", ".", "x" * 5000, "http://" + "a" * 5000 + "/",
    "http://a..b/", "http://.a/", "http://-/", "http://xn--/", "http://\ud800/",
]  # fmt: skip
CORPUS = INSIDE + TRICKS

_connected: list[str] = []
_is_watching = False


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _is_watching and event == "socket.connect":
        _connected.append(str(arguments[1]))


sys.addaudithook(_watch)


@pytest.fixture
def connected() -> Iterator[list[str]]:
    """Everything that this process connects, as the interpreter's audit events tell it."""
    global _is_watching
    _connected.clear()
    _is_watching = True
    yield _connected
    _is_watching = False


def test_the_corpus_is_large_and_the_watch_sees_sockets(connected: list[str]) -> None:
    assert len(set(CORPUS)) == len(CORPUS) >= 150
    with pytest.raises(FetchFailed):
        download("http://127.0.0.1:9/", limits=DownloadLimits(seconds_max=2, allowed=("127.0.0.0/8",)))
    assert any("127.0.0.1" in one for one in connected)


@pytest.mark.parametrize("url", CORPUS, ids=lambda url: ascii(url)[:60])
def test_as_image_url_nothing_is_connected_and_the_answer_is_the_same(url: str, connected: list[str]) -> None:
    with pytest.raises(FetchFailed) as refused:
        download(url, limits=DownloadLimits(seconds_max=5))
    assert connected == []
    assert str(refused.value) == "the address could not be downloaded; it has to be public and answer with a picture"


@pytest.mark.parametrize("url", [url for url in CORPUS if url.isprintable() and url.isascii()], ids=lambda u: u[:60])
def test_as_the_target_of_a_redirect_nothing_but_the_first_address_is_connected(url: str, connected: list[str]) -> None:
    web = Web({"out.test": answer(302, location=url or "http://127.0.0.1/")})
    known = web.resolve

    def resolve(host: str, port: int) -> list[str]:
        from hidream_edit.outgoing.addresses import resolve as asked

        return known(host, port) if host == "out.test" else asked(host, port)

    with pytest.raises(FetchFailed):
        download("http://out.test/", limits=DownloadLimits(seconds_max=5), resolve_host=resolve, connect_to=web.connect)
    assert connected == []
    assert set(web.connected) == {PUBLIC}


def test_as_a_webhook_nothing_is_connected_and_the_try_is_final(tmp_path: Path, connected: list[str]) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite3", synchronous="normal")
    sender = WebhookSender(store, lambda job: {"request_id": job.id}, new_private_key())
    urls = [url for url in CORPUS if url and "\ud800" not in url]
    for number, url in enumerate(urls):
        new = NewJob(id=f"j{number}", caller="c", input={}, webhook_url=url)
        store.submit(new, now=0, failure=Failure("x", "x"))
    while sender.once():
        pass
    assert connected == []
    for number, url in enumerate(urls):
        (attempt,) = store.attempts(f"j{number}")
        assert (attempt.status, bool(attempt.error)) == (None, True), url
    store.close()


def test_a_stranger_learns_nothing_of_what_runs_inside(connected: list[str]) -> None:
    """An open port, a closed one and an address where nobody is give the same answer, and none waits for a network."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    answers, seconds = set(), []
    for url in (f"http://127.0.0.1:{listener.getsockname()[1]}/", "http://127.0.0.1:9/", "http://10.255.255.1/"):
        began = time.monotonic()
        with pytest.raises(FetchFailed) as refused:
            download(url, limits=DownloadLimits(seconds_max=5))
        seconds.append(time.monotonic() - began)
        answers.add(str(refused.value))
    listener.close()
    assert len(answers) == 1
    assert max(seconds) < 1
    assert connected == []


def test_a_delivery_names_no_inner_address(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite3", synchronous="normal")
    store.submit(NewJob(id="a", caller="c", input={}, webhook_url="http://10.0.0.1/"), now=0, failure=Failure("x", "x"))
    WebhookSender(store, lambda _: {}, new_private_key()).once()
    (attempt,) = store.attempts("a")
    assert "10.0.0.1" not in str(attempt.error)
    assert Delivery("a", "u", 1).timeout_seconds < 60
    store.close()
