"""Settings → engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hidream_edit.settings import ModelSettings
from hidream_edit.wiring.devices import named_devices

if TYPE_CHECKING:
    from hidream_edit.engine.engine import Engine


def open_engine(
    models: ModelSettings, *, progress: Callable[[str], None], on_loss: Callable[[str], None] | None = None
) -> Engine:
    """The engine that the settings ask for; ``progress`` and ``on_loss`` as `Engine.load` takes them.

    Raises:
        InputInvalid, ModelUnusable, DeviceUnavailable: see `Engine.load`.
    """
    from hidream_edit.engine.engine import Engine  # brings torch

    return Engine.load(
        models.model,
        adapter=models.adapter,
        base=models.base,
        text_encoder_4=models.text_encoder_4,
        device=models.device,
        devices=named_devices(models),
        dtype=models.dtype,
        memory=models.memory,
        quality=models.quality,
        float8=models.float8,
        quantization=models.quantization,
        measures=models.measures,
        progress=progress,
        on_loss=on_loss,
    )
