"""Is everything here that a server or a runner needs: one finding for each thing, nothing changed."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hidream_edit.domain.errors import BlobsUnavailable, HidreamEditError, StoreUnavailable, StoreUnusable
from hidream_edit.engine.known_models import BUNDLED, MINI, bundled_is_here, is_cached
from hidream_edit.queue.migrations import Schemas
from hidream_edit.settings import ModelSettings, ServerSettings
from hidream_edit.wiring.devices import named_devices
from hidream_edit.wiring.exit_codes import ExitCode
from hidream_edit.wiring.server_parts import open_objects

NULL = "null"
GIBIBYTE = 2**30
DISK_PROBLEM_BYTES, DISK_WARNING_BYTES = GIBIBYTE // 2, 5 * GIBIBYTE
CLOCK_WARNING_SECONDS = 1.0
# Parts of a whole model; the fourth encoder may come from a folder of its own.
PARTS = ("transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "text_encoder_3")


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"  # it works, and may not for long or not as fast
    PROBLEM = "problem"  # it does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report; ``advice`` says what to do."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""

    def line(self) -> str:
        """For a person."""
        return f"{self.verdict:8s} {self.check:9s} {self.found}" + (f": {self.advice}" if self.advice else "")


def examine(server: ServerSettings, models: ModelSettings) -> Iterator[Finding]:
    """Look at one thing after the other; what is wrong with one keeps none of the others from being looked at."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("model", lambda: _model(models)),
        ("device", lambda: _device(models)),
        ("memory", lambda: _memory(models)),
        ("disk", lambda: _disk(server)),
        ("database", lambda: _database(server)),
        ("clock", lambda: _clock(server)),
        ("blobs", lambda: _blobs(server)),
    ]
    for name, check in checks:
        try:
            yield check()
        except HidreamEditError as error:
            yield Finding(name, Verdict.PROBLEM, str(error))
        except ImportError as missing:
            yield Finding(
                name,
                Verdict.WARNING,
                f"{missing.name} is not installed",
                "this machine can serve the API and edit nothing; pip install 'hidream-edit[engine]'",
            )


def exit_code_of(findings: Sequence[Finding]) -> ExitCode:
    """Warnings are fine."""
    is_broken = any(finding.verdict is Verdict.PROBLEM for finding in findings)
    return ExitCode.UNHEALTHY if is_broken else ExitCode.OK


def _model(models: ModelSettings) -> Finding:
    if models.model == NULL:
        return Finding("model", Verdict.OK, "none is needed with --model null")
    folder = _folder_of(models)
    if folder is None:
        return _model_of_hub(str(models.model))
    if not folder.is_dir():
        return Finding("model", Verdict.PROBLEM, f"{folder} is not a folder", "give a model folder or a hub id")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        return Finding(
            "model", Verdict.PROBLEM, f"{folder} lacks {', '.join(missing)}", "download the whole model again"
        )
    for what, file in (("adapter", models.adapter), ("base", models.base), ("text_encoder_4", models.text_encoder_4)):
        if file is not None and not Path(file).expanduser().exists() and not is_cached(file):
            return Finding("model", Verdict.PROBLEM, f"{what}: {file} is not there", "check the path, or download it")
    name = "the bundled mini model" if folder == BUNDLED else str(folder)
    return Finding("model", Verdict.OK, f"{name}, {_bytes_of(folder) / 1e9:.2f} GB of weights")


def _model_of_hub(name: str) -> Finding:
    if is_cached(name):
        return Finding("model", Verdict.OK, f"{name} is in the hub's cache")
    return Finding(
        "model", Verdict.WARNING, f"{name} is not here", f"the first start downloads it; `hf download {name}` does now"
    )


def _folder_of(models: ModelSettings) -> Path | None:
    """Where the model lies; None where it is named as on the hub."""
    if models.model in (None, MINI):
        if not bundled_is_here():
            return BUNDLED / "transformer"
        return BUNDLED
    folder = Path(str(models.model)).expanduser()
    looks_like_id = str(models.model).count("/") == 1 and not str(models.model).startswith((".", "/", "~"))
    return None if looks_like_id and not folder.is_dir() else folder


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def _device(models: ModelSettings) -> Finding:
    if models.model == NULL:
        return Finding("device", Verdict.OK, "none is needed with --model null")
    from hidream_edit.engine.devices import choose_device, choose_dtype, multiplies_bfloat16  # brings torch

    several = [str(choose_device(name)) for name in named_devices(models)]
    device = choose_device(several[0] if several else models.device)
    dtype = str(choose_dtype(models.dtype, device)).removeprefix("torch.")
    if device.type == "cpu" and models.model not in (None, MINI):
        return Finding("device", Verdict.WARNING, f"cpu, {dtype}", "an edit takes hours; use a CUDA device")
    found = f"{', '.join(several) or device}, {dtype}"
    if dtype == "bfloat16" and not multiplies_bfloat16(device):
        return Finding("device", Verdict.WARNING, found, "no instructions for it here; float32 is faster")
    if device.type == "cpu" and dtype == "float32" and multiplies_bfloat16(device):
        found += "; --dtype bfloat16 would be faster on this processor, and less exact"
    return Finding("device", Verdict.OK, found)


def _memory(models: ModelSettings) -> Finding:
    folder = None if models.model == NULL else _folder_of(models)
    if models.model == NULL:
        return Finding("memory", Verdict.OK, "little is needed with --model null")
    from hidream_edit.engine.devices import HEADROOM_BYTES, choose_device, free_bytes  # brings torch

    several = [choose_device(name) for name in named_devices(models)] or [choose_device(models.device)]
    device = min(several, key=free_bytes)  # each holds the whole transformer
    free, needed = free_bytes(device), HEADROOM_BYTES + (_bytes_of(folder) if folder is not None else 0)
    found = f"{free / GIBIBYTE:.1f} GiB are free on {device}"
    if folder is None:
        return Finding("memory", Verdict.OK, f"{found}; `hidream-edit models` says what each model needs")
    if free < needed and device.type == "cuda":
        advice = "parts of the model will take turns on the device; `hidream-edit models --plan` says how"
        return Finding("memory", Verdict.WARNING, found, advice)
    if free < needed:
        advice = f"the model's files have {needed / GIBIBYTE:.1f} GiB; close other programs, or choose another device"
        return Finding("memory", Verdict.PROBLEM, found, advice)
    return Finding("memory", Verdict.OK, found)


def _disk(server: ServerSettings) -> Finding:
    folder = server.folder
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / GIBIBYTE:.1f} GiB are free for {folder}"
    if free < DISK_PROBLEM_BYTES:
        return Finding("disk", Verdict.PROBLEM, found, "make room, or name another folder with --data")
    if free < DISK_WARNING_BYTES:
        return Finding("disk", Verdict.WARNING, found, "uploads and results need room; HIDREAM_EDIT_SERVER_KEEP_HOURS")
    return Finding("disk", Verdict.OK, found)


def _database(server: ServerSettings) -> Finding:
    """Its schema against ours; it is not brought up to date here."""
    schemas, what = _schemas(server)
    known, seen = schemas.known, schemas.seen
    if not seen:
        return Finding("database", Verdict.OK, f"{what} is empty; the first start makes schema {known}")
    if schemas.is_refused:
        found = f"{what} has schema {seen}, for programs that know {schemas.oldest}; this version knows {known}"
        return Finding("database", Verdict.PROBLEM, found, "a newer version made it: use that one")
    if schemas.is_newer:
        advice = "this version can work with it; update it as well"
        return Finding("database", Verdict.WARNING, f"{what} has schema {seen}, made by a newer version", advice)
    if seen < known:
        others = "stop all programs of the older version first" if schemas.shuts_out else "others go on meanwhile"
        advice = f"the next start, or `hidream-edit migrate`, brings it up to date; {others}"
        return Finding("database", Verdict.WARNING, f"{what} has schema {seen} of {known}", advice)
    return Finding("database", Verdict.OK, f"{what}, schema {seen}")


def _schemas(server: ServerSettings) -> tuple[Schemas, str]:
    """The schema that we know, the one that is there, and what holds it."""
    if server.database is None:
        from hidream_edit.queue.sqlite.store import look

        file = server.folder / "jobs.sqlite3"
        return look(file), str(file)
    schemas, _ = _postgres().look(server.database.get_secret_value())
    return schemas, "PostgreSQL"


def _postgres() -> Any:
    try:
        from hidream_edit.queue.postgres import store
    except ImportError as missing:
        raise StoreUnusable("PostgreSQL needs its driver: pip install 'hidream-edit[postgres]'") from missing
    return store


def _clock(server: ServerSettings) -> Finding:
    """Leases are compared between machines, so their clocks have to agree."""
    if server.database is None:
        return Finding("clock", Verdict.OK, "one machine, one clock")
    before = time.time()
    _, theirs = _postgres().look(server.database.get_secret_value())
    after = time.time()
    apart = max(before - theirs, theirs - after, 0.0)
    found = f"{apart:.1f} s apart from the database's"
    if apart > server.lease_seconds / 2:
        advice = "runners would lose their jobs; set the clock, chrony or systemd-timesyncd keeps it"
        return Finding("clock", Verdict.PROBLEM, found, advice)
    if apart > CLOCK_WARNING_SECONDS:
        return Finding("clock", Verdict.WARNING, found, "set the clock, chrony or systemd-timesyncd keeps it")
    return Finding("clock", Verdict.OK, found)


def _blobs(server: ServerSettings) -> Finding:
    """Put, read and delete a few bytes."""
    what = server.blobs or str(server.folder / "blobs")
    name, data = f"doctor-{secrets.token_hex(12)}", secrets.token_bytes(64)
    try:
        objects = open_objects(server)
        objects.put(name, iter([data]), "application/octet-stream")
        read = b"".join(objects.read(name, start=0, length=len(data)))
        objects.delete(name)
    except (BlobsUnavailable, StoreUnavailable, OSError) as problem:
        advice = (
            "check the folder's owner" if server.blobs is None else "check bucket, key and HIDREAM_EDIT_S3_ENDPOINT"
        )
        return Finding("blobs", Verdict.PROBLEM, f"{what} cannot be written and read: {problem}", advice)
    if read != data:
        return Finding("blobs", Verdict.PROBLEM, f"{what} gives back other bytes than were put", "check the storage")
    return Finding("blobs", Verdict.OK, f"{what} takes, gives and deletes")
