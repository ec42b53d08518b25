"""The official clients, unmodified, against the server."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import Server, picture_bytes

from hidream_edit.testing import NullEngine
from hidream_edit.wiring.dev_tls import made

HERE = Path(__file__).parent
STEP_SECONDS = 0.03
LARGE_JS, LARGE_PYTHON = 91 * 2**20, 101 * 2**20


class ConnectProxy:
    """Leads every tunnel to one port, as a hosts file would lead every name to one machine."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        upstream = socket.create_connection(("127.0.0.1", self._target))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
        back.start()
        _copy(client, upstream)
        back.join()
        client.close()
        upstream.close()

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, engine=NullEngine(seconds_per_step=STEP_SECONDS), upload_bytes_max=300_000_000)
    yield made
    made.close()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed; CI has it")
def test_the_javascript_client(plain_server: Server) -> None:
    installed = HERE / "js" / "node_modules" / "@fal-ai" / "client"
    assert installed.exists(), "run `make test`, or `npm ci` in tests/acceptance/js"
    picture = base64.b64encode(picture_bytes()).decode()
    printed = subprocess.check_output(
        ["node", str(HERE / "js" / "flows.mjs"), plain_server.url, picture], text=True, timeout=120
    )
    seen = json.loads(printed)
    steps = [f"step {number} of 3" for number in (1, 2, 3)]
    assert seen["run"] == {"seed": 5, "width": 6, "hasRequestId": True}
    assert (seen["subscribe"]["images"], seen["subscribe"]["last"]) == (1, "COMPLETED")
    assert [text for text in seen["subscribe"]["logs"] if text.startswith("step")] == steps
    assert seen["streamedSteps"] == 3
    assert seen["stream"]["events"] > 1
    assert seen["stream"]["final"]
    assert seen["upload"] == {"status": 200}
    assert seen["blobInput"] == 6
    assert seen["multipart"] == LARGE_JS
    assert seen["status"]
    assert seen["cancelled"] == {"name": "ApiError", "status": 499, "type": "client_cancelled"}
    assert seen["invalid"] == {"name": "ValidationError", "status": 422, "fields": ["num_images"]}


def test_the_python_client(tmp_path: Path) -> None:
    tls = made(tmp_path, ())
    picture = tmp_path / "picture.png"
    picture.write_bytes(picture_bytes())
    server = Server(
        tmp_path,
        engine=NullEngine(seconds_per_step=STEP_SECONDS),
        upload_bytes_max=300_000_000,
        tls=tls,
    )
    proxy = ConnectProxy(server.port)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(tls.authority), "FAL_KEY": "key:secret"}
    try:
        printed = subprocess.check_output(
            [sys.executable, "-W", "ignore", str(HERE / "python_flows.py"), str(picture)],
            text=True,
            timeout=180,
            env=environment,
        )
    finally:
        proxy.close()
        server.close()
    seen = json.loads(printed)
    assert seen["run"] == 5
    assert seen["subscribe"] == {"images": 1, "steps": 3}
    assert seen["submit"] == {"images": 1, "status": "Completed"}
    assert seen["stream"] == {"many": True, "final": 1}
    for repository in ("fal_v3", "cdn", "fal"):
        assert seen[f"upload {repository}"]
        assert seen[f"edit of {repository}"] == 6
    assert seen["multipart"] == LARGE_PYTHON
    assert seen["cancelled"] == [499, "client_cancelled"]
    assert seen["invalid"] == 422
    assert seen["client timeout"] == "FalClientTimeoutError"
    assert seen["realtime"] == [[1, 6], [2, 6], [3, 6]]
    assert seen["realtime error"]
    assert seen["async"] == 1
