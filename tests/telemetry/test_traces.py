"""Spans as the SDK keeps them, and what happens where nobody collects."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.collector import Collector

from hidream_edit.settings import TraceSettings
from hidream_edit.telemetry.otlp import OtlpTracer, TellsOnce
from hidream_edit.telemetry.traces import NO_TRACES, traceparent_of
from hidream_edit.wiring.tracing import open_tracer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret
HEADER = f"00-{TRACE}-{PARENT}-01"


def spans(exporter: InMemorySpanExporter, tracer: OtlpTracer) -> dict[str, ReadableSpan]:
    tracer.close()
    return {span.name: span for span in exporter.get_finished_spans()}


@pytest.mark.parametrize(
    "header",
    [None, "", "x", HEADER.upper(), HEADER + "-x", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01"],
)
def test_what_is_no_traceparent_is_not_taken_for_one(header: str | None) -> None:
    assert traceparent_of(header) is None


def test_a_span_goes_on_with_the_trace_of_the_caller_and_leads_to_the_next_process() -> None:
    exporter = InMemorySpanExporter()
    tracer = OtlpTracer("api", exporter)
    with tracer.begin("request", traceparent_of(HEADER), kind="server", method="POST", route="/x") as request:
        request.note(status=200, request_id="a")
    tracer.record("queue wait", request.traceparent, began=100.0, ended=102.5, attempt=1)
    found = spans(exporter, tracer)
    outer, inner = found["request"], found["queue wait"]
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {TRACE}
    assert (f"{outer.parent.span_id:016x}", inner.parent.span_id) == (PARENT, outer.context.span_id)
    assert dict(outer.attributes) == {
        "http.request.method": "POST",
        "http.route": "/x",
        "http.response.status_code": 200,
        "hidream_edit.request_id": "a",
    }
    assert (inner.start_time, inner.end_time) == (100_000_000_000, 102_500_000_000)


def test_an_error_is_named_and_what_it_says_is_kept_to_itself() -> None:
    exporter = InMemorySpanExporter()
    tracer = OtlpTracer("runner", exporter)
    with pytest.raises(ValueError, match="token"), tracer.begin("fetch source", None):
        raise ValueError("https://x/?token=1")  # pragma: allowlist secret
    span = spans(exporter, tracer)["fetch source"]
    assert span.attributes["error.type"] == "ValueError"
    assert "token" not in span.to_json()
    assert span.events == ()


def test_a_caller_who_asks_not_to_be_recorded_is_not() -> None:
    exporter = InMemorySpanExporter()
    tracer = OtlpTracer("api", exporter)
    with tracer.begin("request", HEADER[:-1] + "0") as span:
        assert span.traceparent.startswith(f"00-{TRACE}-")
    assert spans(exporter, tracer) == {}


def test_without_a_collector_a_span_hands_on_where_it_belongs_and_does_nothing_else() -> None:
    with NO_TRACES.begin("request", HEADER, kind="server", method="POST") as span:
        span.note(status=200)
        span.failed("X")
    span.end()
    NO_TRACES.record("queue wait", None, began=1, ended=2)
    NO_TRACES.close()
    assert (span.traceparent, NO_TRACES.begin("request", None).traceparent, NO_TRACES.is_on) == (HEADER, None, False)


@pytest.mark.parametrize("environment", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}])
def test_where_no_traces_are_wanted_nothing_is_imported(environment: dict[str, str]) -> None:
    code = "from hidream_edit.settings import TraceSettings; from hidream_edit.wiring import serve, runner, tracing; "
    code += "print(tracing.open_tracer(TraceSettings(), 'api').is_on); import sys; "
    code += "print([name for name in sys.modules if name.startswith(('opentelemetry', 'requests', 'google'))])"
    assert in_a_process(code, **environment) == "False\n[]\n"


def test_where_the_extra_is_missing_the_log_says_so_and_work_goes_on() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; from hidream_edit.settings import TraceSettings; "
    code += "from hidream_edit.wiring.tracing import open_tracer; print(open_tracer(TraceSettings(), 'api').is_on)"
    said = in_a_process(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert "hidream-edit[otel]" in said
    assert "False" in said


def test_a_variable_that_cannot_be_read_costs_the_traces_and_not_the_server() -> None:
    code = "from hidream_edit.settings import TraceSettings; from hidream_edit.wiring.tracing import open_tracer; "
    code += "print(open_tracer(TraceSettings(), 'api').is_on)"
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "-1"}
    said = in_a_process(code, **wrong)
    assert "there are no traces" in said
    assert said.endswith("False\n")


def in_a_process(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean | environment, text=True, capture_output=True, check=True)
    return done.stderr + done.stdout


def test_a_collector_that_takes_calls_and_never_answers_delays_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector(is_mute=True) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")  # whoever waited for it would wait for that long
        tracer = open_tracer(TraceSettings(), "api")
        while not collector.calls:
            tracer.begin("request", None).end()
        for _ in range(5000):  # more than the queue holds
            tracer.begin("request", None).end()
        tracer.close()
    assert "127.0.0.1" not in caplog.text


def test_a_collector_that_went_away_is_one_line_in_the_log_and_its_return_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = [SpanExportResult.FAILURE, SpanExportResult.FAILURE, SpanExportResult.SUCCESS, SpanExportResult.SUCCESS]

    class Away(InMemorySpanExporter):
        def export(self, _: object) -> SpanExportResult:
            return answers.pop(0)

    caplog.set_level(logging.INFO, "hidream_edit")
    exporter = TellsOnce(Away())
    while answers:
        exporter.export([])
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "the collector of traces takes none",
        "the collector of traces takes them again",
    ]
    assert exporter.force_flush()
