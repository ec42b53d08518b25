"""Server-sent events, line by line."""

from __future__ import annotations

import json
from typing import Any

from hidream_edit.client.errors import ClientError


class EventLines:
    """Collects the lines of one event; comments, which only keep a connection open, are passed over."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def feed(self, line: str) -> dict[str, Any] | None:
        """The event that ``line`` ends.

        Raises:
            ClientError: it is not a JSON object.
        """
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return None
        if not self._data:
            return None
        text, self._data = "\n".join(self._data), []
        try:
            event = json.loads(text)
        except ValueError as malformed:
            raise ClientError("the server sent an event that is not JSON") from malformed
        if not isinstance(event, dict):
            raise ClientError("the server sent an event that is not an object")
        return event
