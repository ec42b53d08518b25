"""What each quality trades for time. The numbers come from measured curves (docs/concepts/quality.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hidream_edit.domain.quality import Quality


@dataclass(frozen=True, slots=True)
class Trades:
    """Each measure by itself; as they stand here, all are off."""

    tolerance: float = 0.0  # expected change up to which something is used again, relative to the velocity
    skips_max: int = 0  # steps in a row that may use the last velocity
    steps_min: int = 0  # with fewer everything is computed: each step goes too far
    guided_every: int = 1  # of the computed steps, each how manieth runs all branches; the others the last one alone
    float8: bool = False  # products in float8, where the engine was loaded with it


TRADES: Mapping[Quality, Trades] = {
    Quality.EXACT: Trades(),
    Quality.BALANCED: Trades(tolerance=1.0, skips_max=3, steps_min=16, float8=True),
    Quality.TURBO: Trades(tolerance=1.5, skips_max=4, steps_min=16, guided_every=2, float8=True),
}
