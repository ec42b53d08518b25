"""``hidream-edit keys``, ``requests`` and ``migrate``: for the owner of a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hidream_edit.cli.options import Data, Database, given
from hidream_edit.cli.terminal import Terminal
from hidream_edit.domain.keys import Scope
from hidream_edit.domain.quotas import Quota

if TYPE_CHECKING:
    from hidream_edit.settings import ServerSettings

keys = typer.Typer(help="Keys of callers.", no_args_is_help=True)
requests = typer.Typer(help="Requests of all callers.", no_args_is_help=True)
KeyId = Annotated[str, typer.Argument(help="Its id, as `keys list` shows it.")]
MEGABYTE = 1_000_000
RequestId = Annotated[str, typer.Argument(help="As the client got it.")]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for your own memory.")],
    scope: Annotated[Scope, typer.Option(help="admin also sees the whole server.")] = Scope.USE,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests per minute.", show_default="no limit")] = None,
    concurrent: Annotated[
        int | None, typer.Option(min=1, help="Requests that wait or run at a time.", show_default="no limit")
    ] = None,
    store: Annotated[
        int | None, typer.Option(min=1, help="Megabytes of files that it may store.", show_default="no limit")
    ] = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make a key. It is shown once and stored only as a hash."""
    from hidream_edit.wiring import owner

    with _told():
        quota = Quota(rate, concurrent, None if store is None else store * MEGABYTE)
        typer.echo(owner.create_key(_settings(data, database), name, scope=scope, quota=quota))


@keys.command("list")
def list_keys(data: Data = None, database: Database = None) -> None:
    """List keys by id, age and name."""
    from hidream_edit.wiring import owner

    with _told():
        for key in owner.list_keys(_settings(data, database)):
            state = "revoked" if key.revoked_at is not None else "valid"
            typer.echo(
                f"{key.id}  {_when(key.created_at)}  {state:8s} {key.scope.value:6s} {_quota(key.quota)}{key.name}"
            )


@keys.command("log")
def log_of_keys(
    count: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
    data: Data = None,
    database: Database = None,
) -> None:
    """List what was done with keys, and when."""
    from hidream_edit.wiring import owner

    with _told():
        for action in owner.key_actions(_settings(data, database), count):
            typer.echo(f"{_when(action.at)}  {action.key_id}  {action.action}")


@keys.command("revoke")
def revoke_key(key_id: KeyId, data: Data = None, database: Database = None) -> None:
    """Make a key open nothing any more."""
    from hidream_edit.wiring import owner

    with _told():
        if not owner.revoke_key(_settings(data, database), key_id):
            Terminal().fail(f"there is no valid key {key_id}")
            raise typer.Exit(2)


@requests.command("list")
def list_requests(
    count: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    data: Data = None,
    database: Database = None,
) -> None:
    """List requests."""
    from hidream_edit.wiring import owner

    with _told():
        for job in owner.list_requests(_settings(data, database), count):
            typer.echo(f"{job.id}  {_when(job.queued_at)}  {job.state.value:10s} {job.caller}")


@requests.command("show")
def show_request(request_id: RequestId, data: Data = None, database: Database = None) -> None:
    """Show one request with its log and the calls of its webhook."""
    from hidream_edit.wiring import owner

    with _told():
        job, events, attempts = owner.show_request(_settings(data, database), request_id)
        typer.echo(f"{job.id}  {job.state.value}  attempt {job.attempt} of {job.attempts_max}  caller {job.caller}")
        if job.failure is not None:
            typer.echo(f"failed: {job.failure.kind}: {job.failure.message}")
        for event in events:
            typer.echo(f"{_when(event.at)}  {event.level.value:5s} {event.message}")
        for number, attempt in enumerate(attempts, 1):
            outcome = attempt.error or f"answered {attempt.status}"
            typer.echo(f"{_when(attempt.at)}  webhook, attempt {number}: {outcome} after {attempt.seconds:.1f} s")


@requests.command("cancel")
def cancel_request(request_id: RequestId, data: Data = None, database: Database = None) -> None:
    """Cancel a request: at once while it waits, at its next step while it runs."""
    from hidream_edit.wiring import owner

    with _told():
        job = owner.cancel_request(_settings(data, database), request_id)
        typer.echo(f"{job.id}  {'asked to stop' if job.state.value == 'running' else job.state.value}")


def migrate(data: Data = None, database: Database = None) -> None:
    """Bring the data folder to this version's schema; `serve` and `runner` do it by themselves."""
    from hidream_edit.wiring import owner

    with _told(), owner.opened(_settings(data, database)) as parts:
        typer.echo(f"schema {parts.store.schema()}")


def _settings(data: str | None, database: str | None) -> ServerSettings:
    from hidream_edit.settings import ServerSettings

    return ServerSettings(**given({"data": data, "database": database}))


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours become a message and an exit code."""
    from hidream_edit.domain.errors import HidreamEditError
    from hidream_edit.wiring.exit_codes import exit_code_of

    try:
        yield
    except HidreamEditError as error:
        Terminal().fail(str(error))
        raise typer.Exit(exit_code_of(error)) from error


def _quota(quota: Quota) -> str:
    parts = [] if quota.rate_per_minute is None else [f"{quota.rate_per_minute:g}/min"]
    parts += [] if quota.concurrent_max is None else [f"{quota.concurrent_max} at a time"]
    parts += [] if quota.bytes_max is None else [f"{quota.bytes_max / MEGABYTE:g} MB"]
    return f"({', '.join(parts)}) " if parts else ""


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
