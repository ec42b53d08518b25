"""Whether jobs are being worked on, and by what: told by runners to the store, read by whoever asks the API."""

from __future__ import annotations

import asyncio
import time
from dataclasses import fields

from hidream_edit.api.services import Readiness
from hidream_edit.domain.edit import EditDefaults, Fit
from hidream_edit.domain.interfaces import RUNNER_SILENT_SECONDS, RunnerState
from hidream_edit.domain.quality import Quality
from hidream_edit.domain.safety import UNCHECKED
from hidream_edit.runner.supervisor import Supervisors
from hidream_edit.wiring.server_parts import ServerParts

READINESS_SECONDS = 0.5  # for which an answer holds


class ReadinessOf:
    """Tells whether jobs are being worked on, from what runners say of themselves."""

    def __init__(self, parts: ServerParts, supervisor: Supervisors | None, draining: asyncio.Event) -> None:
        self._parts, self._supervisor, self._draining = parts, supervisor, draining
        self._known, self._until = Readiness("loading", is_ready=False), 0.0

    def __call__(self) -> Readiness:
        if self._draining.is_set():
            return Readiness("draining", is_ready=False)
        if time.monotonic() >= self._until:
            self._known, self._until = self._look(), time.monotonic() + READINESS_SECONDS
        return self._known

    def engine(self) -> tuple[str, str] | None:
        """Model and device of a runner that is ready, and what it checks pictures with."""
        for runner in self._parts.store.runners(since=time.time() - RUNNER_SILENT_SECONDS):
            if runner.state is RunnerState.READY:
                return f"{runner.engine} on {runner.device}", runner.safety
        return None

    def defaults(self) -> EditDefaults:
        """Of the model that a runner has loaded; the hosted ones until there is a runner."""
        for runner in self._parts.store.runners(since=time.time() - RUNNER_SILENT_SECONDS):
            if runner.defaults:
                told = {"quality": Quality.EXACT, **runner.defaults}
                # A runner of a newer version may tell more than this one knows of.
                told = {field.name: told[field.name] for field in fields(EditDefaults) if field.name in told}
                return EditDefaults(**told | {"fit": Fit(told["fit"]), "quality": Quality(told["quality"])})
        return EditDefaults()

    def _look(self) -> Readiness:
        runners = self._parts.store.runners(since=time.time() - RUNNER_SILENT_SECONDS)
        states = {runner.state for runner in runners}
        # One runner that checks nothing is enough for a picture to go out unchecked.
        checkers = sorted({runner.safety for runner in runners if runner.state is RunnerState.READY})
        if self._supervisor is not None and not self._supervisor.is_alive:
            return Readiness("runner dead", is_ready=False)
        if RunnerState.READY in states:
            return Readiness("ready", True, UNCHECKED if UNCHECKED in checkers else ", ".join(checkers))
        if RunnerState.WARMING in states:
            return Readiness("warming", is_ready=False)
        if RunnerState.LOADING in states or self._supervisor is not None:
            return Readiness("loading", is_ready=False)
        return Readiness("no runner", is_ready=False)
