"""A server that speaks S3, as a process of its own: moto's, since no S3 server proper can be had from the registries.

It checks the protocol (ranges, uploads in parts, listings, errors) and not signatures, and forgets all when it ends.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from functools import cache

import httpx

from hidream_edit.blobs.s3 import Bucket

_numbers = itertools.count()


class S3Server:
    """One on loopback; a test may freeze and kill it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        # Its lines of one request each tell nothing; the environment keeps it out of the coverage report.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(self.url)
                break
            except httpx.TransportError:
                assert self._process.poll() is None, "moto's server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def new_bucket(self) -> Bucket:
        """An empty bucket."""
        name = f"bucket-{os.getpid()}-{next(_numbers)}"
        assert httpx.put(f"{self.url}/{name}").is_success
        return Bucket(name, "some/prefix", self.url, "us-east-1", "name-of-a-key", "its-secret")

    def freeze(self) -> None:
        """Take connections and answer none."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.thaw()
        self._process.kill()
        self._process.wait()


@cache
def s3_server() -> S3Server:
    """One for all tests."""
    server = S3Server()
    atexit.register(server.end)
    return server
