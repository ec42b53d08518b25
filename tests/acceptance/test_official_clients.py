"""The official clients, unmodified, against the server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Server, picture_bytes

from hidream_edit.testing import NullEngine
from hidream_edit.wiring.dev_tls import made

HERE = Path(__file__).parent
OLDEST_PYTHON = HERE.parents[1] / ".stamps" / "fal-client-0.5.0"
STEP_SECONDS = 0.03
LARGE = 101 * 2**20


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
        # One side is gone: the other must hear of it, or it waits for an answer for ever.
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.skipif(
    shutil.which("node") is None and not os.environ.get("CI"), reason="Node is not installed; CI has it"
)
@pytest.mark.parametrize(
    ("client", "door"),
    [("@fal-ai/client", "proxy"), ("@fal-ai/client", "host"), ("@fal-ai/client", "tls"), ("client-oldest", "tls")],
)
def test_the_javascript_client(client: str, door: str, tmp_path: Path) -> None:
    assert (HERE / "js" / "node_modules" / client).exists(), "run `make test`, or `npm ci` in tests/acceptance/js"
    tls = made(tmp_path, ()) if door == "tls" else None
    server = Server(tmp_path, engine=NullEngine(seconds_per_step=STEP_SECONDS), upload_bytes_max=300_000_000, tls=tls)
    environment = {**os.environ, "SERVER_PORT": str(server.port)}
    if tls is not None:
        environment["NODE_EXTRA_CA_CERTS"] = str(tls.authority)
    command = ["node", *(["--require", str(HERE / "js" / "hosted_names.cjs")] if door != "proxy" else [])]
    picture = base64.b64encode(picture_bytes()).decode()
    try:
        printed = subprocess.check_output(
            [*command, str(HERE / "js" / "flows.mjs"), client, door, server.url, picture],
            text=True,
            timeout=120,
            env=environment,
        )
    finally:
        server.close()
    seen = json.loads(printed)
    steps = [f"step {number} of 3" for number in (1, 2, 3)]
    assert seen["run"] == {"seed": 5, "width": 6, "hasRequestId": True}
    assert (seen["subscribe"]["images"], seen["subscribe"]["last"]) == (1, "COMPLETED")
    assert [text for text in seen["subscribe"]["logs"] if text.startswith("step")] == steps
    assert seen["streamedSteps"] == 3
    assert seen["stream"]["events"] > 1
    assert seen["stream"]["final"] == 200
    assert seen["upload"] == {"status": 200}
    assert seen["blobInput"] == 6
    assert seen["large"]
    assert seen["status"]
    assert seen["cancelled"] == {"name": "ApiError", "status": 499, "type": "client_cancelled"}
    assert seen["invalid"] == {"name": "ValidationError", "status": 422, "fields": ["num_images"]}


def python_flows(folder: Path, script: str, **environment: str) -> dict[str, Any]:
    """What a script saw that believes to speak to the hosted names."""
    tls = made(folder, ("localhost",))
    picture = folder / "picture.png"
    picture.write_bytes(picture_bytes())
    engine = NullEngine(seconds_per_step=STEP_SECONDS)
    server = Server(folder, engine=engine, upload_bytes_max=300_000_000, tls=tls)
    proxy = ConnectProxy(server.port)
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(tls.authority), "FAL_KEY": "key:secret"}
    try:
        printed = subprocess.check_output(
            [sys.executable, "-W", "ignore", str(HERE / script), str(picture)],
            text=True,
            timeout=180,
            env=inherited | environment,
        )
    except subprocess.SubprocessError as lost:
        with contextlib.closing(sqlite3.connect(server.store_file)) as database:
            lost.add_note(str(database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()))
        raise
    finally:
        proxy.close()
        server.close()
    seen: dict[str, Any] = json.loads(printed)
    return seen


@pytest.mark.parametrize("names", [{}, {"FAL_RUN_HOST": "localhost"}], ids=["tls", "host"])
def test_the_python_client(names: dict[str, str], tmp_path: Path) -> None:
    """It always speaks TLS; under a name of one's own, the host's name decides what part of the service is meant."""
    seen = python_flows(tmp_path, "python_flows.py", **names)
    assert seen["run"] == 5
    assert seen["subscribe"] == {"images": 1, "steps": 3}
    assert seen["submit"] == {"images": 1, "status": "Completed"}
    assert seen["stream"] == {"many": True, "final": 1}
    for repository in ("fal_v3", "cdn", "fal"):
        assert seen[f"upload {repository}"]
        assert seen[f"edit of {repository}"] == 6
    assert seen["multipart"] == LARGE
    assert seen["cancelled"] == [499, "client_cancelled"]
    assert seen["invalid"] == 422
    assert seen["client timeout"] == "FalClientTimeoutError"
    assert seen["realtime"] == [[1, 6], [2, 6], [3, 6]]
    assert seen["realtime error"]
    assert seen["async"] == 1


def test_an_early_python_client(tmp_path: Path) -> None:
    assert OLDEST_PYTHON.exists(), "run `make test`, which installs it beside the current one"
    assert python_flows(tmp_path, "python_oldest_flows.py", PYTHONPATH=str(OLDEST_PYTHON)) == {
        "version": "0.5.0",
        "run": 5,
        "subscribe": {"images": 1, "steps": 3},
        "submit": {"images": 1, "status": "Completed"},
        "stream": {"many": True, "final": 1},
        "upload": True,
        "edit of upload": 6,
        "async": 1,
    }
