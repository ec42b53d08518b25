"""Whether this process tells a collector of its work."""

from __future__ import annotations

import logging

from hidream_edit.settings import TraceSettings
from hidream_edit.telemetry.traces import NO_TRACES, Tracer

logger = logging.getLogger(__name__)


def open_tracer(settings: TraceSettings, process: str) -> Tracer:
    """One that sends, where a collector is named and the extra is here; otherwise nothing is imported."""
    if not settings.is_wanted:
        return NO_TRACES
    try:
        from hidream_edit.telemetry.otlp import OtlpTracer
    except ImportError:
        logger.warning("a collector of traces is named, and what speaks to it is not here: install hidream-edit[otel]")
        return NO_TRACES
    try:
        return OtlpTracer(process)
    except Exception:  # a variable that the library cannot read: no reason not to edit
        logger.exception("there are no traces")
        return NO_TRACES
