"""The command ``hidream-edit models --plan``: how a model would be loaded, from sizes alone."""

from __future__ import annotations

from hidream_edit.domain.errors import InputInvalid, ModelNotFound
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.known_models import BUNDLED, MINI, is_cached
from hidream_edit.engine.memory.plan import MemoryPlan, Room, choose_in, everything_resident, parse_memory
from hidream_edit.engine.memory.sizes import REAL_NAME, ModelSizes, real_sizes

REAL_REPOSITORY = f"HiDream-ai/{REAL_NAME}"
ADAPTED = "HiDream-I1-Full"
BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}


def plan(
    model: str,
    memory: str | None,
    *,
    host: str | None = None,
    dtype: str | None = None,
    quantization: Quantization = Quantization.NONE,
) -> MemoryPlan:
    """The plan for ``model`` on a GPU with ``memory``; with everything on the device where none is given.

    HiDream-E1-Full needs no files: where they are not here, its sizes are known.

    Raises:
        InputInvalid: not an amount of memory, or not a precision.
        ModelUnusable: the model's files are not right, or it does not fit.
    """
    precision = dtype or "bfloat16"
    if precision not in BYTES_OF:
        raise InputInvalid(f"{precision} is not a precision; choose {', '.join(BYTES_OF)}", field="dtype")
    device_bytes = None if memory is None else parse_memory(memory)
    host_bytes = None if host is None else parse_memory(host)
    room = Room(2**62 if device_bytes is None else device_bytes, host_bytes)
    names = {name for repository in (REAL_REPOSITORY, f"HiDream-ai/{ADAPTED}") for name in _names(repository)}
    if model in names and not is_cached(model):
        refine = model in _names(f"HiDream-ai/{ADAPTED}")

        def sizes_of(kept: Quantization) -> ModelSizes:
            return real_sizes(item=BYTES_OF[precision], refine=refine, quantization=kept)

        if device_bytes is None:
            return everything_resident(sizes_of(quantization))
        return choose_in(quantization, room, sizes_of)
    return _of_files(model, precision, room, quantization)


def _names(repository: str) -> tuple[str, str]:
    return repository, repository.partition("/")[2]


def _of_files(model: str, precision: str, room: Room, quantization: Quantization) -> MemoryPlan:
    try:
        from hidream_edit.engine.checked_model import ModelSource  # brings torch
        from hidream_edit.engine.devices import DTYPES
        from hidream_edit.engine.loading import plan_model
    except ImportError as missing:
        raise ModelNotFound("planning from files needs the engine: pip install 'hidream-edit[engine]'") from missing
    source = ModelSource(BUNDLED if model == MINI else model)
    return plan_model(source, dtype=DTYPES[precision], room=room, quantization=quantization)
