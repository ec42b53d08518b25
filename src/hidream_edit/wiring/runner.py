"""The runner process: settings → store, blobs, engine, runner."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hidream_edit.blobs.sources import SourceReader
from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import EditDone, EditEngine, EditStarted, ImageMade, Progress, StepDone
from hidream_edit.domain.errors import InputInvalid, ModelNotFound
from hidream_edit.domain.interfaces import RunnerFacts, RunnerState
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality, quality_named
from hidream_edit.domain.safety import DEFAULT_CHECKER, SafetyChecker
from hidream_edit.engine.known_models import is_cached
from hidream_edit.outgoing.download import DownloadLimits
from hidream_edit.pictures.encode import encode
from hidream_edit.pictures.isolated import IsolatedPictures, Pictures
from hidream_edit.runner.runner import Runner, RunnerLimits
from hidream_edit.settings import (
    ModelSettings,
    NullEngineSettings,
    RunnerSettings,
    SafetySettings,
    ServerSettings,
    TraceSettings,
)
from hidream_edit.telemetry.meters import Meters
from hidream_edit.telemetry.side_door import SideDoor
from hidream_edit.telemetry.traces import Tracer
from hidream_edit.testing import NullEngine
from hidream_edit.wiring.engine import open_engine
from hidream_edit.wiring.exit_codes import ExitCode
from hidream_edit.wiring.server_parts import ServerParts, open_parts
from hidream_edit.wiring.threads import threads_of_runner
from hidream_edit.wiring.tracing import open_tracer

if TYPE_CHECKING:
    from hidream_edit.engine.engine import Engine

logger = logging.getLogger(__name__)

NULL = "null"
PREVIEW_SIDE = 256


class EngineOfRunner:
    """The engine as a runner drives it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name, self.device = engine, engine.model.name, engine.device
        self.defaults: Mapping[str, Any] = asdict(engine.model.defaults)
        self.examples = engine.model.examples

    def memory_bytes(self) -> int:
        return self._engine.memory_bytes()

    def close(self) -> None:
        """End the processes of other devices."""
        self._engine.close()

    def edit(self, source: Picture, edit_input: EditInput) -> Iterator[Progress]:
        engine = self._engine
        settings = engine.settle(edit_input)
        state = engine.begin(source, settings)
        yield EditStarted(settings, state.prompt, tuple(state.warnings), state.steps_total)
        while not state.is_done:
            state = engine.advance(state)
            preview = partial(engine.preview, state, side_max=PREVIEW_SIDE)
            yield StepDone(state.steps_done_total, state.steps_total, preview)
            if state.image_is_finished:
                yield ImageMade(partial(engine.picture, state, state.image_index))
        yield EditDone(state.traded)


def load(models: ModelSettings) -> EditEngine:
    """The engine that the settings ask for; ``null`` is one without weights, for tests of one's own programs.

    Raises:
        InputInvalid, ModelUnusable, DeviceUnavailable: see `Engine.load`.
    """
    if models.model == NULL:
        quality = quality_named(models.quality or Quality.EXACT)
        return NullEngine(seconds_per_step=NullEngineSettings().seconds_per_step, quality=quality)
    return EngineOfRunner(open_engine(models, progress=tell_line_by_line, on_loss=_end_with_the_group))


def _end_with_the_group(_: str) -> None:
    """A device is lost. Ending at once leaves the job to its lease: the next group does it from the start."""
    os._exit(ExitCode.DEVICE)


def tell_line_by_line(message: str) -> None:
    """A plan of many lines as many lines of the log."""
    for line in message.splitlines():
        logger.info("model: %s", line)


def load_checker(settings: SafetySettings) -> SafetyChecker | None:
    """The checker that the settings name; without a name the usual one, where the hub's cache has it.

    Raises:
        ModelUnusable: it was named or is required, and cannot be loaded.
    """
    if settings.model is None and not is_cached(DEFAULT_CHECKER):
        if settings.required:
            raise ModelNotFound(
                f"a safety checker is required and none is here: `hf download {DEFAULT_CHECKER}`, or name one with "
                "HIDREAM_EDIT_SAFETY_MODEL"
            )
        return None
    from hidream_edit.engine.safety import PictureClassifier  # brings torch

    return PictureClassifier.load(settings.model or DEFAULT_CHECKER)


def warm_up(engine: EditEngine, pictures: Pictures, checker: SafetyChecker | None) -> None:
    """One step for nobody, from a file to a file: whatever is only built at the first use is built before somebody
    waits for it."""
    black = pictures.decode(encode(Picture(8, 8, bytes(8 * 8 * 3)), "jpeg"))
    for progress in engine.edit(black, EditInput(edit_instruction="", seed=0, num_inference_steps=1, num_images=1)):
        if isinstance(progress, StepDone):
            progress.preview()
        elif isinstance(progress, ImageMade):
            progress.finish()
    if checker is not None:
        checker.flagged([black])


def work(
    settings: ServerSettings, models: ModelSettings, safety: SafetySettings, shown: RunnerSettings, *, supervised: bool
) -> None:
    """Work on jobs until told to stop: once, to finish the current one; twice, or after the grace period, to hand it
    back.

    Raises:
        StoreUnusable, ModelUnusable, DeviceUnavailable: it cannot begin.
    """
    prepare_for_torch(settings.folder)
    parts, meters = open_parts(settings), Meters()
    parts.store.stopwatch.tell = meters.store_took
    doing = _Doing()
    with _side_door(shown, meters, doing), contextlib.closing(open_tracer(TraceSettings(), "runner")) as tracer:
        _work(parts, settings, models, safety, tracer, doing, supervised=supervised)
    parts.close()


def prepare_for_torch(folder: Path) -> None:
    """Set what torch reads from the environment when it is imported, which comes later; what is there stays.

    It keeps the code of compiled blocks in the data folder: in a temporary one a service loses it when it restarts, and
    compiling takes minutes. A runner that was started by hand gets the threads of one that `serve` starts.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))
    os.environ.update(threads_of_runner(1))


class _Doing:
    """What the runner does, in the words of its states."""

    def __init__(self) -> None:
        self.state: Callable[[], RunnerState] = lambda: RunnerState.LOADING

    def __call__(self) -> str:
        return self.state().value


def _side_door(shown: RunnerSettings, meters: Meters, doing: _Doing) -> contextlib.AbstractContextManager[object]:
    if shown.metrics_port is None:
        return contextlib.nullcontext()
    try:
        return SideDoor(shown.metrics_host, shown.metrics_port, meters, doing)
    except OSError as taken:
        raise InputInvalid(
            f"the port {shown.metrics_port} for metrics cannot be opened: {taken.strerror}", field="metrics_port"
        ) from taken


def _work(
    parts: ServerParts,
    settings: ServerSettings,
    models: ModelSettings,
    safety: SafetySettings,
    tracer: Tracer,
    doing: _Doing,
    *,
    supervised: bool,
) -> None:
    with contextlib.closing(IsolatedPictures()) as pictures:
        pictures.start()  # beside the weights
        engine, checker = _ready(parts, models, safety, pictures, doing)
        runner = Runner(
            parts.store,
            parts.blobs,
            engine,
            SourceReader(parts.blobs, DownloadLimits(allowed=settings.allowed_networks), clock=time.time),
            pictures=pictures,
            safety=checker,
            tells_origin=settings.tell_origin,
            limits=RunnerLimits(settings.lease_seconds, settings.heartbeat_seconds),
            tracer=tracer,
        )
        doing.state = lambda: runner.state
        ending = _Ending(runner, settings.grace_seconds)
        if supervised:
            threading.Thread(target=ending.when_parent_is_gone, name="parent", daemon=True).start()
        with ending.on_signals():
            runner.run()
        if isinstance(engine, EngineOfRunner):
            engine.close()


def _ready(
    parts: ServerParts, models: ModelSettings, safety: SafetySettings, pictures: Pictures, doing: _Doing
) -> tuple[EditEngine, SafetyChecker | None]:
    """An engine that was loaded and has made an edit, and what checks its pictures; others see how far it is."""
    beginning = f"runner-{uuid.uuid4().hex[:12]}"
    try:
        parts.store.announce(RunnerFacts(beginning, RunnerState.LOADING, models.model or "mini", time.time()))
        checker = load_checker(safety)
        engine = load(models)
        parts.store.announce(
            RunnerFacts(beginning, RunnerState.WARMING, engine.name, time.time(), device=engine.device)
        )
        doing.state = lambda: RunnerState.WARMING
        warm_up(engine, pictures, checker)
    finally:
        parts.store.dismiss(beginning)
    return engine, checker


class _Ending:
    """Turns signals, the parent's end and the clock into `drain` and `hurry`."""

    def __init__(self, runner: Runner, grace_seconds: float) -> None:
        self._runner, self._grace_seconds, self._told = runner, grace_seconds, False

    def tell(self) -> None:
        """The first word drains, the second hands the job back."""
        if self._told:
            self._runner.hurry()
            return
        self._told = True
        self._runner.drain()
        later = threading.Timer(self._grace_seconds, self._runner.hurry)
        later.daemon = True
        later.start()

    def when_parent_is_gone(self) -> None:
        """Wait for the end of standard input, which the parent holds."""
        # Not through sys.stdin: its lock, held by this thread, would break the end of the interpreter.
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        self.tell()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen while the runner works. Ctrl-C at a terminal reaches parent and child: the parent decides."""

        def on_signal(_: int, __: FrameType | None) -> None:
            self.tell()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGUSR1, lambda *_: self._runner.hurry())
        signal.signal(signal.SIGINT, signal.SIG_IGN if not sys.stdin.isatty() else on_signal)
        yield
