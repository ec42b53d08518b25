"""The whole server in one process: API, store, blobs, and a runner with the null engine."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from hidream_edit.api.app import create_app
from hidream_edit.api.auth import Authenticator
from hidream_edit.api.links import Links
from hidream_edit.api.outcome import webhook_body
from hidream_edit.api.services import ApiLimits, Readiness, Services
from hidream_edit.blobs.folder import FolderObjects
from hidream_edit.blobs.sources import SourceReader
from hidream_edit.blobs.store import Blobs
from hidream_edit.domain.keys import new_key
from hidream_edit.outgoing.download import DownloadLimits
from hidream_edit.queue.maintenance import Maintenance
from hidream_edit.queue.sql_blobs import SqlBlobRows
from hidream_edit.queue.sql_keys import SqlKeys
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.queue.submitter import Submitter
from hidream_edit.queue.watcher import Watcher
from hidream_edit.runner.runner import Runner, RunnerLimits
from hidream_edit.telemetry.meters import Meters
from hidream_edit.telemetry.traces import NO_TRACES, Tracer
from hidream_edit.testing import NullEngine
from hidream_edit.webhooks.sender import WebhookSender
from hidream_edit.webhooks.signing import key_set, new_private_key
from hidream_edit.wiring.dev_tls import DevTls, without_tickets
from hidream_edit.wiring.serve import KEEP_ALIVE_SECONDS

APP = "/fal-ai/hidream-e1-full"
SECRET = b"secret of the tests"
LINKS = Links(SECRET)


class Server:
    """A server on loopback; `client` speaks to it."""

    def __init__(
        self,
        folder: Path,
        *,
        engine: NullEngine | None = None,
        with_runner: bool = True,
        upload_bytes_max: int = 40_000_000,
        tls: DevTls | None = None,
        tracer: Tracer = NO_TRACES,
    ) -> None:
        self.store_file = folder / "jobs.sqlite3"
        self.store = SqliteStore(self.store_file, synchronous="normal")
        self.blobs = Blobs(FolderObjects(folder / "blobs"), SqlBlobRows(self.store))
        self.keys, meters = SqlKeys(self.store), Meters()
        self.store.stopwatch.tell = meters.store_took
        services = Services(
            store=self.store,
            blobs=self.blobs,
            watcher=Watcher(self.store),
            submitter=Submitter(self.store, time.time),
            auth=Authenticator(self.keys, open_without_keys=True, token_secret=SECRET),
            readiness=lambda: Readiness("ready", is_ready=True),
            clock=time.time,
            links=LINKS,
            meters=meters,
            tracer=tracer,
            limits=ApiLimits(
                body_bytes_max=2_000_000,
                upload_bytes_max=upload_bytes_max,
                ping_seconds=0.2,
                realtime_idle_seconds=2.0,
            ),
        )
        webhook_key = new_private_key()
        app = create_app(services, secret=SECRET, key_set=key_set(webhook_key))
        self.sender = WebhookSender(
            self.store,
            lambda job: webhook_body(job, self.blobs, LINKS, now=time.time()),
            webhook_key,
            allowed_networks=("127.0.0.0/8",),
            tracer=tracer,
        )
        self.sender.start()
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                host="127.0.0.1",
                port=0,
                log_level="warning",
                ws="websockets-sansio",
                timeout_graceful_shutdown=2,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                ssl_certfile=None if tls is None else tls.certificate,
                ssl_keyfile=None if tls is None else tls.key,
                ssl_context_factory=None if tls is None else without_tickets,
            )
        )
        self._thread = threading.Thread(target=self._uvicorn.run)
        self._thread.start()
        while not self._uvicorn.started:
            assert self._thread.is_alive(), "the server's thread ended while it started"
            time.sleep(0.005)
        self.port = self._uvicorn.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=20)
        self.maintenance = Maintenance(self.store, self.blobs)
        self.maintenance.start()
        reader = SourceReader(self.blobs, DownloadLimits(), clock=time.time)
        self.runner = Runner(
            self.store,
            self.blobs,
            engine or NullEngine(),
            reader,
            limits=RunnerLimits(look_seconds=0.05),
            tracer=tracer,
        )
        self._runner_thread = threading.Thread(target=self.runner.run)
        if with_runner:
            self._runner_thread.start()

    def close(self) -> None:
        self.runner.hurry()
        if self._runner_thread.is_alive():
            self._runner_thread.join()
        self.sender.stop()
        self.maintenance.stop()
        self.client.close()
        self._uvicorn.should_exit = True
        self._thread.join()
        self.store.close()

    def new_key(self, name: str = "test") -> str:
        key, credential = new_key(name, now=time.time())
        self.keys.add(key)
        return credential

    def submit(self, client: httpx.Client | None = None, **fields: Any) -> dict[str, Any]:
        response = (client or self.client).post(f"/queue{APP}", json=an_input(**fields))
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def result(self, request_id: str) -> httpx.Response:
        deadline = time.monotonic() + 20
        while self.client.get(f"/queue{APP}/requests/{request_id}/status").status_code == 202:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self.client.get(f"/queue{APP}/requests/{request_id}")


def picture_bytes(colour: tuple[int, int, int] = (200, 100, 0), size: tuple[int, int] = (6, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def data_uri(data: bytes | None = None) -> str:
    return "data:image/png;base64," + base64.b64encode(data or picture_bytes()).decode()


def an_input(**fields: Any) -> dict[str, Any]:
    return {"image_url": data_uri(), "edit_instruction": "make it night", "output_format": "png"} | fields


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def slow_server(tmp_path: Path) -> Iterator[Server]:
    """Steps take 30 ms, and there are 40 of them."""
    made = Server(tmp_path, engine=NullEngine(seconds_per_step=0.03, steps=40))
    yield made
    made.close()


@pytest.fixture
def idle_server(tmp_path: Path) -> Iterator[Server]:
    """Nobody works on the jobs."""
    made = Server(tmp_path, with_runner=False)
    yield made
    made.close()
