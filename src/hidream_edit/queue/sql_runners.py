"""What runners say of themselves, in the database."""

from __future__ import annotations

import json

from hidream_edit.domain.interfaces import RunnerFacts, RunnerState
from hidream_edit.queue.statements import Statements


class SqlRunners(Statements):
    """See `JobStore`."""

    def announce(self, runner: RunnerFacts) -> None:
        said = {**runner._asdict(), "state": runner.state.value, "defaults": json.dumps(runner.defaults)}
        with self.writing():
            self.execute("announce_runner", **{**said, "examples": json.dumps(runner.examples)})

    def dismiss(self, runner_id: str) -> None:
        with self.writing():
            self.execute("forget_runner", id=runner_id)

    def runners(self, *, since: float) -> list[RunnerFacts]:
        rows = self.fetch("runners_seen_since", since=since)
        return [
            RunnerFacts(
                row["id"],
                RunnerState(row["state"]),
                row["engine"],
                row["seen_at"],
                json.loads(row["defaults"]),
                row["device"],
                row["safety"],
                tuple(json.loads(row["examples"])),
                row["memory_bytes"],
            )
            for row in rows
        ]
