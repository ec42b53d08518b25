"""A name server that changes its mind between the check and the connection, asked over a socket as the system asks."""

from __future__ import annotations

from collections.abc import Iterator

import dns.resolver
import pytest
from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer
from tests.support.web import PUBLIC, Web, answer

from hidream_edit.domain.errors import FetchFailed
from hidream_edit.outgoing.download import DownloadLimits, download

HOST, INSIDE = "rebinding.test", "127.0.0.1"


class Fickle(BaseResolver):  # type: ignore[misc]
    """Gives each question the next answer; the last one for ever. Nothing may be cached."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.questions = 0

    def resolve(self, request: DNSRecord, _: object) -> DNSRecord:
        given = self.answers[min(self.questions, len(self.answers) - 1)]
        self.questions += 1
        reply = request.reply()
        reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(given), ttl=0))
        return reply


class NameServer:
    def __init__(self) -> None:
        self.fickle = Fickle()
        self._server = DNSServer(self.fickle, address="127.0.0.1", port=0, logger=DNSLogger("-request,-reply"))
        self._server.start_thread()
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = ["127.0.0.1"]
        self._resolver.port = self._server.server.server_address[1]

    def resolve(self, host: str, _: int) -> list[str]:
        return [str(record.address) for record in self._resolver.resolve(host, "A")]

    def close(self) -> None:
        self._server.stop()
        self._server.server.server_close()


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


def get(web: Web, names: NameServer, url: str) -> bytes:
    return download(url, limits=DownloadLimits(), resolve_host=names.resolve, connect_to=web.connect)


def test_an_answer_that_turns_private_after_the_check_is_never_heard(names: NameServer) -> None:
    names.fickle.answers = [PUBLIC, INSIDE]
    web = Web({HOST: answer(body=b"picture")})
    assert get(web, names, f"http://{HOST}/a.png") == b"picture"
    assert (web.connected, names.fickle.questions) == ([PUBLIC], 1)


def test_a_second_request_hears_the_private_answer_and_connects_nothing(names: NameServer) -> None:
    names.fickle.answers = [PUBLIC, INSIDE]
    web = Web({HOST: answer(body=b"picture")})
    get(web, names, f"http://{HOST}/a.png")
    with pytest.raises(FetchFailed):
        get(web, names, f"http://{HOST}/b.png")
    assert web.connected == [PUBLIC]


def test_a_redirect_to_the_same_name_asks_again_and_connects_nothing_private(names: NameServer) -> None:
    names.fickle.answers = [PUBLIC, INSIDE]
    web = Web({HOST: answer(302, headers={"location": f"http://{HOST}/inside"})})
    with pytest.raises(FetchFailed):
        get(web, names, f"http://{HOST}/a.png")
    assert web.connected == [PUBLIC]
