"""Which measures help on which device."""

from __future__ import annotations

import torch

from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.products import onednn_is_here
from hidream_edit.engine.model.rebuilding import grouped_products_work


def measures_for(device: torch.device, dtype: torch.dtype) -> Measures:
    """All that were shown to help on this kind of device, or that cannot cost anything there.

    ``compiled`` is not among them: on a CPU it needs a C++ compiler and more time than an edit, and on a GPU it has not
    been measured yet.
    """
    on_cpu = device.type == "cpu"
    return Measures(
        trims=True,
        one_pad=True,
        dead_branches=True,
        one_by_one=on_cpu,
        channels_last=on_cpu,
        onednn=on_cpu and dtype is torch.float32 and onednn_is_here(),
        fused=not on_cpu,
        grouped=not on_cpu and grouped_products_work(device, dtype),
    )
