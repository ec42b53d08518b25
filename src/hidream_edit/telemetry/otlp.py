"""Spans through OpenTelemetry to a collector that speaks OTLP over HTTP; needs the extra ``otel``.

Only `wiring.tracing` imports this, and only where a collector is named. The SDK reads its own variables (OTEL_…), so
that a server is set up as everything else that an owner traces.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hidream_edit.telemetry.traces import Facts, Kind
from hidream_edit.version import __version__

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
NOISY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")  # a line per try, with the address
KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
NAMES = {"method": "http.request.method", "route": "http.route", "status": "http.response.status_code"}
_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpSpan:
    """See `Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent: str | None = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, **facts: Unpack[Facts]) -> None:
        self._span.set_attributes(_named(facts))

    def failed(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self, at: float | None = None) -> None:
        self._span.end(None if at is None else _nanoseconds(at))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            self.failed(kind.__name__)
        self.end()


class OtlpTracer:
    """See `Tracer`. A thread of the SDK sends; when its queue is full, spans are dropped."""

    is_on = True

    def __init__(self, process: str, exporter: SpanExporter | None = None) -> None:
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ours = {"service.name": "hidream-edit", "service.version": __version__, "hidream_edit.process": process}
        self._provider = TracerProvider(
            resource=Resource({**ours, "process.pid": os.getpid()}).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,  # which waits for half a minute
        )
        self._provider.add_span_processor(BatchSpanProcessor(TellsOnce(exporter or OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer("hidream_edit", __version__)

    def begin(
        self, name: str, parent: str | None, *, kind: Kind = "internal", at: float | None = None, **facts: Unpack[Facts]
    ) -> OtlpSpan:
        return OtlpSpan(
            self._tracer.start_span(
                name,
                context=Context() if parent is None else _PROPAGATOR.extract({"traceparent": parent}, Context()),
                kind=KINDS[kind],
                attributes=_named(facts),
                start_time=None if at is None else _nanoseconds(at),
            )
        )

    def record(self, name: str, parent: str | None, *, began: float, ended: float, **facts: Unpack[Facts]) -> None:
        self.begin(name, parent, at=began, **facts).end(ended)

    def close(self) -> None:
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(CLOSE_SECONDS)


class TellsOnce(SpanExporter):
    """An exporter, and one line in the log when the collector goes away and one when it is back."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter, self._is_away = exporter, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        is_away = result is not SpanExportResult.SUCCESS
        if is_away and not self._is_away:
            logger.warning("the collector of traces takes none; they are dropped until it does")
        if self._is_away and not is_away:
            logger.info("the collector of traces takes them again")
        self._is_away = is_away
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _named(facts: Facts) -> dict[str, str | int | float]:
    return {NAMES.get(name, f"hidream_edit.{name}"): value for name, value in facts.items()}  # type: ignore[misc]


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
