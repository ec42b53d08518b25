"""The command ``hidream-edit edit``: sources → engine → files."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from hidream_edit.client.errors import ClientError
from hidream_edit.domain.edit import EditInput, EditSettings
from hidream_edit.domain.errors import DescriberFailed, HidreamEditError
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.compare import side_by_side
from hidream_edit.pictures.decode import decode
from hidream_edit.pictures.encode import encode
from hidream_edit.pictures.sources import expand, read
from hidream_edit.settings import DescriberSettings, ModelSettings
from hidream_edit.wiring.describe import make_describer
from hidream_edit.wiring.engine import open_engine
from hidream_edit.wiring.exit_codes import ExitCode, exit_code_of
from hidream_edit.wiring.outputs import OutputPlan, Written, store

logger = logging.getLogger(__name__)

UNCHECKED = "no safety checker is installed: the pictures were not checked"


class Reporter(Protocol):
    """Whoever tells the person at the terminal; the command line implements it."""

    def say(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def fail(self, message: str) -> None: ...
    def loading(self, message: str) -> None: ...
    def begin_steps(self, total: int, *, seed: int, source: str) -> None: ...
    def step(self, done: int) -> None: ...
    def end_steps(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EditOrder:
    """Everything that the command line asked for."""

    sources: list[str]
    edit_input: EditInput
    plan: OutputPlan
    save_steps: Path | None = None
    compare: Path | None = None
    safety_checker: bool | None = None
    as_json: bool = False


class Stopped(Exception):
    """Ctrl-C, obeyed between two steps."""


def run(order: EditOrder, models: ModelSettings, describing: DescriberSettings, reporter: Reporter) -> ExitCode:
    """Edit every source with an engine in this process; see `each_source`."""
    try:
        sources = expand(order.sources)
        order.plan.check(sources=len(sources), images=order.edit_input.num_images or 1)
        first = _decoded(sources[0]) if len(sources) == 1 else None  # a bad picture fails before the model loads
        engine = load_engine(models, reporter)
    except HidreamEditError as error:
        reporter.fail(str(error))
        return exit_code_of(error)
    with _stop_between_steps() as stop:
        return each_source(
            sources, order, reporter, lambda one: _edit_one(one, first, order, engine, describing, reporter, stop)
        )


def each_source(
    sources: list[str], order: EditOrder, reporter: Reporter, edit_one: Callable[[str], dict[str, Any]]
) -> ExitCode:
    """Edit one source after the other; one that fails does not stop the others. The first failure decides the code."""
    code = ExitCode.OK
    for source in sources:
        try:
            report = edit_one(source)
        except (HidreamEditError, ClientError) as error:
            reporter.fail(f"{source[:200]}: {error}" if len(sources) > 1 else str(error))
            code = code or exit_code_of(error)
        except OSError as problem:
            reporter.fail(f"cannot write {problem.filename or 'the result'}: {problem.strerror or problem}")
            code = code or ExitCode.OUTPUT
        except Stopped:
            reporter.warn("stopped; what was finished before is kept")
            return ExitCode.STOPPED
        else:
            if order.as_json:
                reporter.say(json.dumps(report))
    return code


def load_engine(models: ModelSettings, reporter: Reporter) -> Any:
    """The engine that the settings ask for.

    Raises:
        InputInvalid, ModelUnusable, DeviceUnavailable: see `Engine.load`.
    """
    engine = open_engine(models, progress=reporter.loading)
    if engine.model.is_random:
        reporter.warn(f"{engine.model.name} has random weights, made for tests: the picture will be noise")
    return engine


def _edit_one(
    source: str,
    decoded: Picture | None,
    order: EditOrder,
    engine: Any,
    describing: DescriberSettings,
    reporter: Reporter,
    stop: list[bool],
) -> dict[str, Any]:
    """Edit one source and write what comes out; the report is a JSON object."""
    picture = decoded or _decoded(source)
    edit_input, warnings = described(picture, order.edit_input, describing)
    settings: EditSettings = engine.settle(edit_input)
    began = time.monotonic()
    state = engine.begin(picture, settings)
    warnings += state.warnings
    if order.safety_checker:
        warnings.append(UNCHECKED)
    for warning in warnings:
        reporter.warn(warning)
    written: list[Written] = []
    reporter.begin_steps(state.steps_total, seed=settings.seed, source=source)
    try:
        for state in engine.steps(state):  # noqa: B020 - each state replaces the one before
            reporter.step(state.steps_done_total)
            if order.save_steps is not None:
                name = f"image-{state.image_index + 1}-step-{state.step:03d}.jpg"
                store(encode(engine.preview(state, side_max=512), "jpeg"), order.save_steps / name)
            for picture_done in state.pictures[len(written) :]:
                written.append(
                    order.plan.write(picture_done, source, len(written), settings=settings, model=engine.model.name)
                )
            if stop[0] and not state.is_done:
                raise Stopped
    finally:
        reporter.end_steps()
    if order.compare is not None:
        store_comparison(order.compare, picture, state.pictures)
    if not order.as_json:
        for one in written:
            reporter.say(one.url)
    return {
        "images": [asdict(one) for one in written],
        "timings": {"inference": round(time.monotonic() - began, 3)},
        "seed": settings.seed,
        "has_nsfw_concepts": [],
        "prompt": state.prompt,
        "settings": settings.as_json(),
        "model": engine.model.name,
        "quality": None if state.traded is None else state.traded.as_json(),
        "warnings": list(warnings),
    }


def described(picture: Picture, edit_input: EditInput, describing: DescriberSettings) -> tuple[EditInput, list[str]]:
    """Let the describer, where one is configured, fill a description that was left out."""
    if describing.url is None or edit_input.target_image_description:
        return edit_input, []
    describer = make_describer(describing)
    try:
        description = describer.describe(picture, edit_input.edit_instruction or "")
    except DescriberFailed as problem:
        return edit_input, [f"{problem}; going on with the plain instruction"]
    finally:
        describer.close()
    changed = replace(edit_input, edit_instruction=description.instruction, target_image_description=description.target)
    return changed, []


def store_comparison(path: Path, before: Picture, after: Sequence[Picture]) -> None:
    """Before and after side by side, as a file.

    Raises:
        OSError: it cannot be written.
    """
    captions = ["before", *(["after"] if len(after) == 1 else [f"after {k + 1}" for k in range(len(after))])]
    store(encode(side_by_side([before, *after], captions), _format_of(path)), path)


def _decoded(source: str) -> Picture:
    return decode(read(source))


def _format_of(path: Path) -> Any:
    return "png" if path.suffix.lower() == ".png" else "jpeg"


@contextmanager
def _stop_between_steps() -> Iterator[list[bool]]:
    """The first Ctrl-C sets the flag, the second interrupts at once."""
    stop = [False]

    def on_signal(_: int, __: FrameType | None) -> None:
        if stop[0]:
            raise KeyboardInterrupt
        stop[0] = True

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
