"""Downloads that strangers ask for."""

from __future__ import annotations

import httpx
import pytest

from hidream_edit.blobs.fetch import FetchLimits, fetch
from hidream_edit.domain.errors import FetchFailed, PictureTooLarge
from hidream_edit.outgoing.guarded import is_reachable

PUBLIC = "93.184.216.34"


class Web:
    """Answers by host, and keeps every address that was connected."""

    def __init__(self, answers: dict[str, httpx.Response], names: dict[str, list[str]] | None = None) -> None:
        self.answers, self.names = answers, names or {}
        self.connected: list[str] = []

    def resolve(self, host: str, _: int) -> list[str]:
        return self.names.get(host, [PUBLIC])

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.connected.append(request.url.host)
        return self.answers[request.headers["Host"]]

    def fetch(self, url: str, **limits: object) -> bytes:
        return fetch(
            url,
            limits=FetchLimits(**limits),  # type: ignore[arg-type]
            resolve_host=self.resolve,
            transport=httpx.MockTransport(self.handle),
        )


def test_a_public_address_is_downloaded_from_the_very_address_that_was_checked() -> None:
    web = Web({"pictures.test": httpx.Response(200, content=b"picture")})
    assert web.fetch("https://pictures.test/a.jpg?size=1") == b"picture"
    assert web.connected == [PUBLIC]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "192.0.2.1", "198.18.0.1", "240.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_never_connected(address: str) -> None:
    assert not is_reachable(address)
    web = Web({"inside.test": httpx.Response(200, content=b"secret")}, {"inside.test": [PUBLIC, address]})
    with pytest.raises(FetchFailed):
        web.fetch("http://inside.test/")
    assert web.connected == []


def test_the_owner_may_allow_a_network() -> None:
    web = Web({"nas.test": httpx.Response(200, content=b"x")}, {"nas.test": ["192.168.1.5"]})
    assert web.fetch("http://nas.test/", allowed=("192.168.1.0/24",)) == b"x"


def test_every_redirect_is_checked_again() -> None:
    web = Web(
        {"out.test": httpx.Response(302, headers={"location": "http://in.test/"}), "in.test": httpx.Response(200)},
        {"in.test": ["127.0.0.1"]},
    )
    with pytest.raises(FetchFailed):
        web.fetch("http://out.test/")
    assert web.connected == [PUBLIC]


def test_redirects_are_followed_but_not_for_ever() -> None:
    web = Web(
        {"a.test": httpx.Response(301, headers={"location": "//b.test/"}), "b.test": httpx.Response(200, content=b"b")}
    )
    assert web.fetch("http://a.test/") == b"b"
    round_trip = Web({"a.test": httpx.Response(301, headers={"location": "/again"})})
    with pytest.raises(FetchFailed):
        round_trip.fetch("http://a.test/")
    assert len(round_trip.connected) == 6


@pytest.mark.parametrize(
    "url", ["ftp://a.test/", "file:///etc/passwd", "http://", "https://:80/", "http://a.test:99999/", "gopher://a/"]
)
def test_other_schemes_and_malformed_addresses_are_refused(url: str) -> None:
    web = Web({})
    with pytest.raises(FetchFailed):
        web.fetch(url)
    assert web.connected == []


def test_failures_all_look_the_same() -> None:
    texts = set()
    for web in (
        Web({"a.test": httpx.Response(404)}),
        Web({"a.test": httpx.Response(500, text="secret stack trace")}),
        Web({}, {"a.test": ["127.0.0.1"]}),
        Web({}, {"a.test": []}),
    ):
        with pytest.raises(FetchFailed) as caught:
            web.fetch("http://a.test/")
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_a_body_over_the_cap_is_cut_off() -> None:
    web = Web({"a.test": httpx.Response(200, content=bytes(1000))})
    with pytest.raises(PictureTooLarge):
        web.fetch("http://a.test/", bytes_max=999)
