"""The spans of a request, from its first byte to the call of its webhook."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.api.conftest import APP, Server, an_input, data_uri
from tests.api.test_webhooks import Receiver, receiver  # noqa: F401 - a fixture

from hidream_edit.telemetry.otlp import OtlpTracer
from hidream_edit.testing import NullEngine

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret
HEADER = f"00-{TRACE}-{PARENT}-01"
STAGES = ["fetch source", "decode", "edit", "finish", "encode", "store", "complete"]


class Traced(Server):
    """A server whose spans are kept."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self._tracer = OtlpTracer("all", self.exporter)
        super().__init__(folder, tracer=self._tracer, **options)
        self._is_open = True

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            super().close()
            self._tracer.close()

    def spans(self) -> list[ReadableSpan]:
        """All of them, in order; the server ends."""
        self.close()
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    made = Traced(tmp_path)
    yield made
    made.close()


def facts(span: ReadableSpan) -> dict[str, Any]:
    return {name.rpartition(".")[2]: value for name, value in span.attributes.items()}


def test_one_trace_leads_from_the_request_through_the_runner_to_the_webhook(
    traced: Traced,
    receiver: Receiver,  # noqa: F811
) -> None:
    body = an_input(edit_instruction="make it purple", num_inference_steps=7, num_images=2)
    answer = traced.client.post(
        f"/queue{APP}", params={"fal_webhook": receiver.url}, json=body, headers={"traceparent": HEADER}
    )
    request_id = answer.json()["request_id"]
    receiver.wait()
    found = {span.name: span for span in traced.spans()}
    assert set(found) == {"request", "submit", "queue wait", "attempt", *STAGES, "webhook"}
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {TRACE}
    parents = {name: span.parent.span_id for name, span in found.items()}
    assert f"{parents['request']:016x}" == PARENT
    assert parents["submit"] == found["request"].context.span_id
    below_submit = {name for name, parent in parents.items() if parent == found["submit"].context.span_id}
    assert below_submit == {"queue wait", "attempt", "webhook"}
    assert {parents[name] for name in STAGES} == {found["attempt"].context.span_id}
    assert facts(found["request"]) == {
        "method": "POST", "route": "/queue/{owner}/{app}", "status_code": 200, "request_id": request_id
    }  # fmt: skip
    assert facts(found["attempt"]) == {"request_id": request_id, "attempt": 1, "state": "completed"}
    assert facts(found["edit"]) == {"width": 6, "height": 4, "steps": 14, "images": 2}
    assert facts(found["webhook"]) == {"request_id": request_id, "attempt": 1, "status_code": 200}
    told = json.dumps([json.loads(span.to_json()) for span in found.values()])
    for private in ("purple", "data:image", "secret", "127.0.0.1", "blob"):
        assert private not in told


def test_a_request_without_the_header_begins_a_trace_and_reading_leaves_none(traced: Traced) -> None:
    answer = traced.client.post(APP, json=an_input())
    assert answer.status_code == 200
    request_id = answer.headers["x-fal-request-id"]
    traced.client.get(f"/queue{APP}/requests/{request_id}/status", headers={"traceparent": HEADER})
    traced.client.get("/health")
    spans = traced.spans()
    assert len({span.context.trace_id for span in spans}) == 1
    assert [facts(span)["request_id"] for span in spans if span.parent is None] == [request_id]


def test_every_kind_of_file_upload_shows_its_route_and_no_id(traced: Traced) -> None:
    place = traced.client.post(
        "/storage/upload/initiate", json={"file_name": "private-name.png", "content_type": "image/png"}
    ).json()
    assert traced.client.put(place["upload_url"], content=b"x").status_code == 200
    spans = traced.spans()
    assert [facts(span)["route"] for span in spans] == ["/storage/upload/initiate", "/storage/upload/{blob_id}"]
    assert "private-name" not in "".join(span.to_json() for span in spans)


def test_a_picture_that_cannot_be_read_ends_the_trace_with_the_name_of_the_error(traced: Traced) -> None:
    url = data_uri(b"no picture")
    assert traced.client.post(APP, json=an_input(image_url=url)).status_code == 422
    found = {span.name: facts(span) for span in traced.spans()}
    assert set(found) == {"request", "submit", "queue wait", "attempt", "fetch source", "decode", "complete"}
    assert found["decode"]["type"].startswith("Picture")
    assert (found["attempt"]["state"], found["attempt"]["type"]) == ("failed", "JobFailed")


def test_a_server_that_breaks_shows_at_the_request(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password")

    monkeypatch.setattr(traced.store, "submit_all", broken)
    assert traced.client.post(APP, json=an_input()).status_code == 500
    (request, submit) = traced.spans()
    assert (request.status.status_code.name, facts(submit)["type"]) == ("ERROR", "RuntimeError")
    assert "password" not in request.to_json() + submit.to_json()


def test_a_cancelled_edit_and_a_webhook_that_nobody_takes_are_told_as_they_were(
    tmp_path: Path,
    receiver: Receiver,  # noqa: F811
) -> None:
    traced = Traced(tmp_path, engine=NullEngine(seconds_per_step=0.1, steps=50))
    receiver.statuses = [500]
    url = f"/queue{APP}"
    request_id = traced.client.post(url, params={"fal_webhook": receiver.url}, json=an_input()).json()["request_id"]
    while traced.client.get(f"{url}/requests/{request_id}/status").json()["status"] == "IN_QUEUE":
        pass
    traced.client.put(f"{url}/requests/{request_id}/cancel")
    receiver.wait()
    spans = traced.spans()
    assert Counter(span.name for span in spans)["request"] == 2  # the second is the word to cancel
    found = {span.name: facts(span) for span in spans}
    assert found["attempt"]["state"] == "cancelled"
    assert found["edit"]["type"] == "JobCancelled"
    assert (found["webhook"]["status_code"], found["webhook"]["type"]) == (500, "500")
