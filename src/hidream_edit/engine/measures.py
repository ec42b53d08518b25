"""Which measures help on which device, and whether they can be had there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hidream_edit.domain.errors import DeviceUnavailable, InputInvalid
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.devices import free_bytes, multiplies_bfloat16
from hidream_edit.engine.memory.activations import STAGES_KEPT
from hidream_edit.engine.memory.plan import MemoryPlan
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.products import onednn_is_here
from hidream_edit.engine.model.rebuilding import grouped_products_work
from hidream_edit.engine.model.recorded import RECORDINGS_KEPT, CudaRecorder, Recorder
from hidream_edit.engine.quality.float8 import Float8, check_float8

# Majors of NVIDIA's Hopper and Blackwell for data centres. Elsewhere, and in other precisions, PyTorch asks the host
# how many rows each group has, which nothing that is recorded may do.
GROUPED_ALONE = (9, 10)


def measures_for(device: torch.device, dtype: torch.dtype) -> Measures:
    """All that were shown to help on this kind of device, or that cannot cost anything there.

    ``compiled`` is not among them: on a CPU it needs a C++ compiler and more time than an edit, and on a GPU it has not
    been measured yet; nor has ``recorded``. Nor is ``ahead``: what streams through the device cannot have it, and plans
    give the same bits.
    """
    on_cpu = device.type == "cpu"
    return Measures(
        trims=True,
        one_pad=True,
        dead_branches=True,
        one_by_one=on_cpu,
        channels_last=on_cpu,
        onednn=on_cpu and onednn_is_here() and _is_fast(dtype, device),
        fused=not on_cpu,
        grouped=not on_cpu and grouped_products_work(device, dtype),
        as_stored=True,
    )


def _is_fast(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN has kernels for it that are made for this processor."""
    return dtype is torch.float32 or (dtype is torch.bfloat16 and multiplies_bfloat16(device))


def possible_measures(
    measures: Measures, device: torch.device, dtype: torch.dtype, *, float8: Float8, quantization: Quantization
) -> Measures:
    """Of ``measures`` those that go together with what is traded.

    Raises:
        InputInvalid: what is traded excludes itself.
        DeviceUnavailable: this device does not multiply in float8, or cannot record what it is asked to.
    """
    if float8 is True:
        check_float8(device)
    if float8 and quantization is not Quantization.NONE:
        raise InputInvalid("give float8 or a quantization, not both", field="quantization")
    # What is not grouped cannot be recorded.
    if float8:
        # The first three pass by float8's own layers, which take weights as wide as their rows.
        measures = measures.without("onednn", "fused", "grouped", "recorded", "as_stored")
    if quantization is not Quantization.NONE:
        # They would put wide weights together; what is packed is narrower than in the file.
        measures = measures.without("fused", "grouped", "recorded", "as_stored")
    check_recorded(measures, device, dtype)
    return measures


def check_recorded(measures: Measures, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse before anything loads.

    Raises:
        DeviceUnavailable: ``recorded`` is asked for where no forward can be recorded.
    """
    if not measures.recorded:
        return
    reason = None
    if device.type != "cuda":
        reason = f"it needs a CUDA device, and {device} is none"
    elif not measures.grouped:
        reason = "experts ask the host how many tokens they have unless grouped is on too"
    elif dtype is not torch.bfloat16 or torch.cuda.get_device_capability(device)[0] not in GROUPED_ALONE:
        reason = f"grouped products ask the host on {device} in {dtype}; they need bfloat16 on Hopper or Blackwell"
    if reason is not None:
        raise DeviceUnavailable(f"the measure recorded cannot be had: {reason}; leave it off")


def has_room_to_record(plan: MemoryPlan, device: torch.device) -> bool:
    """Whether a loaded model leaves room for recordings beside all that its plan counts.

    What they compute between is memory that they share and that nothing else uses. Their inputs are the projected text
    of a stage, over-counted here by what it was projected from.
    """
    if plan.streamed:  # blocks come and go, in turns that a recording would not take part in
        return False
    sizes = plan.sizes
    recordings = sizes.step + RECORDINGS_KEPT * sizes.texts // STAGES_KEPT
    return free_bytes(device) > plan.peak - plan.standing + sizes.cached + recordings


def recorder_for(
    plan: MemoryPlan, device: torch.device, *, may_keep: bool, progress: Callable[[str], None]
) -> Recorder | None:
    """None where recordings would take memory that is wanted for other things."""
    if may_keep and has_room_to_record(plan, device):
        return CudaRecorder(device)
    progress("steps are not recorded as CUDA graphs: there is no memory for it")
    return None
