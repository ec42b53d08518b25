"""Totals of all that ended, in the database."""

from __future__ import annotations

import json

from hidream_edit.domain.measures import Observation, added
from hidream_edit.queue.statements import Statements


class SqlTotals(Statements):
    """See `JobStore`."""

    def _measure(self, observations: list[Observation]) -> None:
        """Totals grow in the transaction of what they count: a crash loses none, and none counts twice."""
        self.execute("add_to_measures", observations=json.dumps(added(observations)))

    def measures(self) -> list[Observation]:
        return sorted(Observation(**dict(row)) for row in self.fetch("all_measures"))
