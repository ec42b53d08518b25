"""`hidream-edit runner` with a stopwatch on each part of the engine; what they say goes to the collector of traces.

    python benchmarks/traced_runner.py --data FOLDER

The engine tells nobody of its parts: it keeps nothing of an edit and knows no tracer. Here its methods are wrapped from
outside, once, before anything is loaded. What another thread than the device's does has "beside" in its name.

With ``PRETEND_STEP_SECONDS`` in the environment the device is a pretended one: a step takes that long and no processor,
as it is where a GPU computes. Its pictures mean nothing; what happens beside it is real. With ``PRETEND_SAVING``, two
numbers with a comma between, a picture is finished and encoded in that many seconds and takes no processor either, as
it is where cores are to spare.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from hidream_edit.cli.main import run
from hidream_edit.domain.picture import Picture
from hidream_edit.engine import engine as module
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.stages import Stage
from hidream_edit.engine.state import EditState
from hidream_edit.engine.text_encoders import TextEncoders
from hidream_edit.pictures.encode import encode
from hidream_edit.pictures.isolated import IsolatedPictures
from hidream_edit.runner import attempt
from hidream_edit.telemetry.traces import NO_TRACES, Tracer
from hidream_edit.wiring import runner as wiring

PARTS = {
    "begin": "engine: begin", "advance": "engine: step", "preview": "engine: preview", "picture": "engine: picture",
}  # fmt: skip
PRETENDED, PRETENDED_SAVING = "PRETEND_STEP_SECONDS", "PRETEND_SAVING"
told_to: list[Tracer] = [NO_TRACES]


def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``function``, which then tells how long it took."""

    @functools.wraps(function)
    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.time()
        try:
            return function(*arguments, **options)
        finally:
            is_beside = threading.current_thread() is not threading.main_thread()
            whole = f"{name}, beside" if is_beside else name
            told_to[0].record(whole, None, began=began, ended=time.time())

    return measured


def pretend(step_seconds: float) -> None:
    """A device that is not the processor."""

    def velocity(_: Stage, latents: Tensor, source_latents: Tensor, __: float) -> Tensor:
        time.sleep(step_seconds)
        return latents - source_latents

    Stage.velocity = velocity  # type: ignore[method-assign]


def pretend_cores(finish_seconds: float, encode_seconds: float) -> None:
    """Cores that nobody else wants: a picture is the source, and its file that of a small one."""
    small = encode(Picture(8, 8, bytes(8 * 8 * 3)), "jpeg")

    def picture(_: Engine, state: EditState, __: int) -> Picture:
        time.sleep(finish_seconds)
        return state.source

    def encoded(*_: Any, **__: Any) -> bytes:
        time.sleep(encode_seconds)
        return small

    Engine.picture = picture  # type: ignore[method-assign]
    where = IsolatedPictures if hasattr(IsolatedPictures, "encode") else attempt  # older versions send it to a child
    where.encode = encoded  # type: ignore[union-attr]


def main() -> None:
    """Wrap, then do what the command does."""
    opened, loaded = wiring.open_tracer, Engine.load.__func__  # type: ignore[attr-defined]

    def open_tracer(*arguments: Any) -> Tracer:
        told_to[0] = opened(*arguments)
        return told_to[0]

    def load(*arguments: Any, **options: Any) -> Engine:
        engine: Engine = loaded(*arguments, **options)
        autoencoder = type(engine._loaded.autoencoder)  # noqa: SLF001 - whoever measures looks inside
        for method in ("encode", "decode"):
            setattr(autoencoder, method, timed(getattr(autoencoder, method), f"autoencoder: {method}"))
        return engine

    if PRETENDED_SAVING in os.environ:
        pretend_cores(*map(float, os.environ[PRETENDED_SAVING].split(",")))
    for method, name in PARTS.items():
        if hasattr(Engine, method):  # older versions have fewer
            setattr(Engine, method, timed(getattr(Engine, method), name))
    Engine.load = classmethod(load)  # type: ignore[assignment,method-assign]
    TextEncoders.encode = timed(TextEncoders.encode, "text encoders")  # type: ignore[method-assign]
    module.restore_detail = timed(module.restore_detail, "detail")  # type: ignore[attr-defined]
    if PRETENDED in os.environ:
        pretend(float(os.environ[PRETENDED]))
    wiring.open_tracer = open_tracer
    sys.argv[1:1] = ["runner"]
    run()


# Children that decode pictures import this file too.
if __name__ == "__main__":
    main()
