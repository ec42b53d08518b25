"""Which server, with which key: addresses and headers, and who may see the key."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from hidream_edit.client.errors import ClientError, NotAllowed
from hidream_edit.version import __version__

DEFAULT_SERVER, DEFAULT_APP = "http://127.0.0.1:8000", "fal-ai/hidream-e1-full"
URL_VARIABLE, KEY_VARIABLES = "HIDREAM_EDIT_URL", ("HIDREAM_EDIT_KEY", "FAL_KEY")
SECRET_PATHS = ("/storage/upload/", "/files/b/")


class _QueriesHidden(logging.Filter):
    """Addresses of uploads and of private files open them to whoever reads the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.copy_with(query=None)
                if isinstance(arg, httpx.URL) and any(path in arg.path for path in SECRET_PATHS)
                else arg
                for arg in record.args
            )
        return True


logging.getLogger("httpx").addFilter(_QueriesHidden())


@dataclass(frozen=True, slots=True)
class Server:
    """An address without a slash at its end, an app, and the key."""

    url: str
    app: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def named(cls, url: str | None, key: str | None, app: str, environment: Mapping[str, str] = os.environ) -> Server:
        """From arguments, else from the environment.

        Raises:
            ClientError: the address or the app is not one.
            NotAllowed: the key cannot be one.
        """
        address = _address(url or environment.get(URL_VARIABLE) or DEFAULT_SERVER)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", app):
            raise ClientError(f"{app!r} is no app: write owner/name, as in {DEFAULT_APP}")
        if key is None:
            key = next((environment[name] for name in KEY_VARIABLES if environment.get(name)), None)
        key = (key or "").strip() or None
        if key is not None and not re.fullmatch(r"[!-~]+", key):
            # Said here, because the HTTP library would quote the whole header.
            raise NotAllowed("the key has characters that no key has; copy it again, without quotes and line breaks")
        return cls(address, app, key)

    @property
    def run_url(self) -> str:
        """Where the app lies."""
        return f"{self.url}/{self.app}"

    @property
    def queue_url(self) -> str:
        """Where its queue lies."""
        return f"{self.url}/queue/{self.app}"

    def request_url(self, request_id: str) -> str:
        """Where a request lies.

        Raises:
            ClientError: that is no id.
        """
        if not re.fullmatch(r"[\w-]+", request_id):
            raise ClientError(f"{request_id!r} is no request id; take request_id of what submit() returned")
        return f"{self.queue_url}/requests/{request_id}"

    def headers_for(self, url: str) -> dict[str, str]:
        """Who we are; the key is for this server only, wherever else an address leads."""
        headers = {"user-agent": f"hidream-edit/{__version__} (python)"}
        if self.key is not None and _origin(url) == _origin(self.url):
            headers["authorization"] = f"Key {self.key}"
        return headers


def _address(given: str) -> str:
    try:
        url = httpx.URL(given if "://" in given else f"http://{given}")
    except (httpx.InvalidURL, TypeError) as malformed:
        raise ClientError("the server's address is malformed; write it as http://127.0.0.1:8000") from malformed
    if url.scheme not in ("http", "https") or not url.host:
        raise ClientError("the server's address begins with http:// or https://, as in http://127.0.0.1:8000")
    if url.userinfo:
        raise ClientError("the server's address holds a name or a password; give the key as key=, not in the address")
    return str(url.copy_with(query=None, fragment=None)).rstrip("/")


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "", "", None
    return parsed.scheme, parsed.host, parsed.port
