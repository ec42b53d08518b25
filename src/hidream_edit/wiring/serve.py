"""The API process: settings → store, blobs, HTTP app, a supervised runner. Torch is never imported here."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from hidream_edit.api.app import create_app
from hidream_edit.api.auth import Authenticator
from hidream_edit.api.doors import host_names
from hidream_edit.api.links import Links
from hidream_edit.api.outcome import webhook_body
from hidream_edit.api.services import APP_IDS, ApiLimits, Services
from hidream_edit.domain.blobs import Access
from hidream_edit.domain.errors import InputInvalid, StoreUnavailable
from hidream_edit.domain.quotas import Quota
from hidream_edit.domain.safety import DEFAULT_CHECKER, UNCHECKED
from hidream_edit.queue.maintenance import Maintenance
from hidream_edit.queue.submitter import Submitter
from hidream_edit.queue.watcher import Watcher
from hidream_edit.runner.supervisor import Supervisor, Supervisors
from hidream_edit.settings import RunnerSettings, ServerSettings, TraceSettings
from hidream_edit.telemetry.meters import Meters
from hidream_edit.telemetry.traces import Tracer
from hidream_edit.webhooks.sender import WebhookSender
from hidream_edit.webhooks.signing import key_set
from hidream_edit.wiring.dev_tls import existing, without_tickets
from hidream_edit.wiring.readiness import READINESS_SECONDS, ReadinessOf
from hidream_edit.wiring.server_parts import ServerParts, open_parts, read_secret, read_webhook_key
from hidream_edit.wiring.threads import threads_of_runner
from hidream_edit.wiring.tracing import open_tracer

logger = logging.getLogger(__name__)

# Longer than clients keep an idle connection (httpx, and with it the official Python client, 5 s; Node 4 s): the client
# must be the first to close it, or it sends a request into a connection that the server is just closing.
KEEP_ALIVE_SECONDS = 75
WS_BYTES_MAX = 80 * 2**20


@dataclass(frozen=True, slots=True)
class Serving:
    """What a person at the terminal is told."""

    address: str
    data: Path
    has_keys: bool

    def lines(self) -> list[str]:
        """Address, data, and something to try."""
        app = APP_IDS[0]
        return [
            f"hidream-edit serves {app} at {self.address}",
            f"data      {self.data}",
            f"callers   {'with a key' if self.has_keys else 'anybody on this machine (hidream-edit keys create NAME)'}",
            "",
            "try it    curl " + self.address + "/" + app + " -d '{\"image_url\": \"https://picsum.photos/600/400\", "
            "\"edit_instruction\": \"make it snowy\"}'",
            f'          fal.config({{ proxyUrl: {{ url: "{self.address}/api/fal/proxy", when: "always" }} }})',
        ]  # fmt: skip


class Server(uvicorn.Server):
    """Leaves signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def check_exposure(settings: ServerSettings, *, has_keys: bool) -> None:
    """Refuse to stand open on a network.

    Raises:
        InputInvalid: the address is reachable from outside, and nobody has to show a key.
    """
    if has_keys or settings.open_to_all or is_loopback(settings.host):
        return
    raise InputInvalid(
        f"{settings.host} can be reached from other machines, and no key exists: make one with "
        "`hidream-edit keys create NAME`, or say --open-to-all",
        field="host",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(settings: ServerSettings, say: Callable[[str], None], runner_commands: Sequence[list[str]]) -> None:
    """Serve until a signal; ``runner_commands`` start the runners that belong to this process.

    The first SIGTERM or Ctrl-C drains: the running edit finishes, for up to the grace period, while answers are still
    given. The second hands it back to the queue at its next step.

    Raises:
        InputInvalid: the address is open to others without keys.
        StoreUnusable: the data cannot be used.
    """
    parts = open_parts(settings)
    try:
        has_keys = not parts.keys.is_empty()
        check_exposure(settings, has_keys=has_keys)
        with (
            contextlib.closing(open_tracer(TraceSettings(), "api")) as tracer,
            asyncio.Runner(loop_factory=_fast_loop()) as runner,
        ):
            runner.run(_serve(settings, parts, tracer, say, runner_commands, has_keys=has_keys))
    finally:
        parts.close()


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """A third less work per request, where it can be installed."""
    try:
        import uvloop
    except ImportError:  # no wheel for this system
        return None
    return uvloop.new_event_loop


async def _serve(
    settings: ServerSettings,
    parts: ServerParts,
    tracer: Tracer,
    say: Callable[[str], None],
    runner_commands: Sequence[list[str]],
    *,
    has_keys: bool,
) -> None:
    supervisor = None
    if runner_commands:
        supervisor = Supervisors(
            Supervisor(
                command, environment=_private(settings) | _own_port(index) | threads_of_runner(len(runner_commands))
            )
            for index, command in enumerate(runner_commands)
        )
    draining = asyncio.Event()
    readiness = ReadinessOf(parts, supervisor, draining)
    secret = read_secret(settings)
    bases = ("localhost", *settings.bases)
    may_be_open = is_loopback(settings.host) or settings.open_to_all
    links, meters = Links(secret), Meters()
    parts.store.stopwatch.tell = meters.store_took
    services = Services(
        store=parts.store,
        blobs=parts.blobs,
        watcher=Watcher(parts.store),
        submitter=Submitter(parts.store, time.time),
        auth=Authenticator(
            parts.keys,
            open_without_keys=may_be_open,
            token_secret=secret,
            quota=Quota(settings.rate_per_minute, settings.concurrent_max, settings.bytes_max),
        ),
        readiness=readiness,
        clock=time.time,
        links=links,
        defaults=readiness.defaults,
        meters=meters,
        tracer=tracer,
        limits=ApiLimits(
            result_keep_seconds=settings.keep_hours * 3600,
            file_access=Access.HIDE if settings.private_files else Access.ALLOW,
        ),
        file_hosts=frozenset(host_names(bases)),
    )
    webhook_key = read_webhook_key(settings)
    app = create_app(services, secret=secret, key_set=key_set(webhook_key), bases=bases)
    sender = WebhookSender(
        parts.store,
        lambda job: webhook_body(job, parts.blobs, links, now=time.time()),
        webhook_key,
        allowed_networks=settings.allowed_networks,
        tracer=tracer,
    )
    tls = existing(settings.folder) if settings.tls else None
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,  # as the rest of this process does
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="websockets-sansio",
        ws_max_size=WS_BYTES_MAX,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_context_factory=None if tls is None else without_tickets,
    )
    server = Server(config)
    maintenance = Maintenance(parts.store, parts.blobs)
    maintenance.start()
    sender.start()
    if supervisor is not None:
        supervisor.start()
    serving = asyncio.ensure_future(server.serve())
    ending = asyncio.ensure_future(_end_after_signals(settings, server, supervisor, draining))
    telling = asyncio.ensure_future(_tell_when_ready(readiness, say))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            shown = f"[{settings.host}]" if ":" in settings.host else settings.host
            for line in Serving(
                f"{'https' if settings.tls else 'http'}://{shown}:{port}", settings.folder, has_keys
            ).lines():
                say(line)
        await serving
    finally:
        ending.cancel()
        telling.cancel()
        if supervisor is not None:
            await asyncio.to_thread(supervisor.kill)
        await asyncio.to_thread(sender.stop)
        maintenance.stop()


async def _tell_when_ready(readiness: ReadinessOf, say: Callable[[str], None]) -> None:
    """Which model runs on what; known when a runner has loaded it."""
    began = time.monotonic()
    engine = None
    while engine is None:  # the runner is another process: there is no event to wait for
        await asyncio.sleep(READINESS_SECONDS)
        with contextlib.suppress(StoreUnavailable):
            engine = await asyncio.to_thread(readiness.engine)
    what, safety = engine
    say(f"model     {what}, ready after {time.monotonic() - began:.1f} s")
    say(f"safety    {safety}" if safety != UNCHECKED else f"safety    unchecked (`hf download {DEFAULT_CHECKER}`)")


async def _end_after_signals(
    settings: ServerSettings, server: uvicorn.Server, supervisor: Supervisors | None, draining: asyncio.Event
) -> None:
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[int]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    await signals.get()
    draining.set()
    if supervisor is not None:
        supervisor.drain()
        ended = asyncio.ensure_future(asyncio.to_thread(supervisor.wait, settings.grace_seconds))
        again = asyncio.ensure_future(signals.get())
        await asyncio.wait({ended, again}, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.is_alive:
            supervisor.hurry()
            await asyncio.to_thread(supervisor.wait, settings.hand_back_seconds)
        again.cancel()
    server.should_exit = True


def _private(settings: ServerSettings) -> dict[str, str]:
    """What the runner has to know and the list of processes must not show."""
    told = {}
    if settings.database is not None:
        told["HIDREAM_EDIT_SERVER_DATABASE"] = settings.database.get_secret_value()
    if settings.blobs is not None:
        told["HIDREAM_EDIT_SERVER_BLOBS"] = settings.blobs
    return told


def _own_port(index: int) -> dict[str, str]:
    """A port for the numbers of each runner: the one that is set, and those after it."""
    port = RunnerSettings().metrics_port
    return {"HIDREAM_EDIT_RUNNER_METRICS_PORT": str(port + index)} if port else {}


def runner_commands(
    settings: ServerSettings, options: list[str], devices: Sequence[tuple[str, ...]]
) -> list[list[str]]:
    """How to start the runners that belong to this server, one for each entry of ``devices``."""
    command = [sys.executable, "-m", "hidream_edit", "runner", "--supervised", "--data", str(settings.data), *options]
    return [[*command, *(("--devices", ",".join(names)) if names else ())] for names in devices]
