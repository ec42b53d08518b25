"""Traces of real processes, at a collector that speaks OTLP."""

from __future__ import annotations

from collections.abc import Callable

from tests.acceptance.conftest import APP, Process, wait_for
from tests.acceptance.test_serve import an_input
from tests.support.collector import Collector

Start = Callable[..., Process]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret
HEADER = f"00-{TRACE}-{PARENT}-01"
STAGES = {"fetch source", "decode", "edit", "finish", "encode", "store", "complete"}


def test_server_and_runner_tell_one_trace(start: Start) -> None:
    with Collector() as collector:
        server = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100")
        server.wait_until_ready()
        answer = server.client.post(APP, json=an_input(steps=5), headers={"traceparent": HEADER})
        assert answer.status_code == 200
        server.signal()
        assert server.process.wait(timeout=30) == 0  # what was not sent yet is sent at the end
    assert {span.trace for span in collector.spans} == {TRACE}
    by_id = {span.id: span for span in collector.spans}
    request, attempt = collector.one("request"), collector.one("attempt")
    assert (request.parent, request.process) == (PARENT, "api")
    assert by_id[collector.one("submit").parent] == request
    assert by_id[attempt.parent] == by_id[collector.one("queue wait").parent] == collector.one("submit")
    assert {span.name for span in collector.spans if span.parent == attempt.id} == STAGES
    assert {span.process for span in collector.spans if span.name in STAGES} == {"runner"}
    assert collector.one("edit").facts["hidream_edit.steps"] == 5
    assert request.seconds >= attempt.seconds > 0


def test_the_source_of_the_next_request_is_read_while_the_device_is_busy(start: Start) -> None:
    settings = {"OTEL_BSP_SCHEDULE_DELAY": "100", "HIDREAM_EDIT_NULL_SECONDS_PER_STEP": "0.05"}
    with Collector() as collector:
        server = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **settings)
        server.wait_until_ready()
        sent = [server.client.post(f"/queue{APP}", json=an_input(steps=20)).json() for _ in range(2)]
        wait_for(lambda: server.client.get(sent[1]["status_url"]).json()["status"] == "COMPLETED")
        server.signal()
        assert server.process.wait(timeout=30) == 0
    first, second = sorted((span for span in collector.spans if span.name == "edit"), key=lambda span: span.began)
    ahead = collector.one("read ahead")
    assert ahead.facts["hidream_edit.request_id"] == sent[1]["request_id"]
    assert first.began < ahead.began
    assert ahead.began + ahead.seconds < first.began + first.seconds < second.began
    assert {span.name for span in collector.spans if span.parent == second.parent} == STAGES - {
        "fetch source",
        "decode",
    }
    assert {span.name for span in collector.spans if span.parent == ahead.id} == {"fetch source", "decode"}


def test_a_collector_that_is_not_there_harms_nothing(start: Start) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = start(**settings, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    server.wait_until_ready()
    for _ in range(5):
        assert server.client.post(APP, json=an_input()).status_code == 200
    wait_for(lambda: sum("collector of traces takes none" in line for line in server.printed) == 2)  # each process once
    server.signal()
    assert server.process.wait(timeout=30) == 0
    assert not [line for line in server.printed if "Traceback" in line or "127.0.0.1:9" in line]


def test_a_collector_that_never_answers_delays_neither_requests_nor_the_end(start: Start) -> None:
    settings = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}  # nobody waits for that long
    with Collector(is_mute=True) as collector:
        server = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **settings)
        server.wait_until_ready()
        assert server.client.post(APP, json=an_input()).status_code == 200
        wait_for(lambda: collector.calls >= 2)
        assert server.client.post(APP, json=an_input()).status_code == 200
        server.signal()
        assert server.process.wait(timeout=30) == 0
