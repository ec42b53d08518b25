"""A stream while it is read, told once for both clients."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from hidream_edit.client import answers
from hidream_edit.client.actions import Answer, Call, Talk
from hidream_edit.client.asking import not_reachable
from hidream_edit.client.edit import Edit
from hidream_edit.client.errors import ClientError, NotReachable
from hidream_edit.client.events import EventLines
from hidream_edit.client.sources import Source
from hidream_edit.client.statuses import Preview
from hidream_edit.client.talks import Talks

ENDED = "the stream ended before the edit did; the server may have stopped"


class Stream:
    """What a client does with the lines of a stream, and which error each way to lose it is."""

    def __init__(self, talks: Talks, call: Call, source: Source) -> None:
        self._talks, self.call, self._source = talks, call, source
        self._until, self._lines, self._request_id = talks.until(), EventLines(), ""

    def begin(self, headers: Mapping[str, str]) -> None:
        """The server has taken the request, and says its name."""
        self._request_id = headers.get("x-fal-request-id", "")

    def heard(self, line: str) -> Talk[Preview | Edit] | None:
        """What to say of the event that ``line`` ends; None while there is none.

        Raises:
            TimedOut: it is too late.
            ClientError: it is no event.
        """
        self._talks.check(self._until, self._request_id)
        event = self._lines.feed(line)
        return None if event is None else self._talks.event(event, self._request_id, self._source)

    def refused(self, answer: Answer) -> ClientError:
        """The server answered without a stream."""
        return answers.error_of(answer, self._talks.server)

    def lost(self, error: httpx.HTTPError) -> NotReachable:
        """The connection broke."""
        return not_reachable(self._talks.server, self.call.url, error)

    def ended(self) -> NotReachable:
        """It ended in order, and without the edit."""
        return NotReachable(ENDED, request_id=self._request_id)
