"""What ``GET /metrics`` shows, and to whom."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.api.conftest import APP, Server, an_input

from hidream_edit.domain.errors import StoreUnavailable
from hidream_edit.domain.keys import Scope, new_key
from hidream_edit.domain.quotas import Quota

ROOT = Path(__file__).parents[2]
Samples = dict[str, float]


def samples(server: Server, client: httpx.Client | None = None) -> Samples:
    """Value by name and labels, such as ``jobs_ended_total{state="failed"}``."""
    response = (client or server.client).get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for name, labels, value, *_ in family.samples:
            inside = ",".join(f'{label}="{word}"' for label, word in sorted(labels.items()))
            found[name.removeprefix("hidream_edit_") + (f"{{{inside}}}" if inside else "")] = value
    return found


def client_with(server: Server, *, scope: Scope = Scope.USE, quota: Quota | None = None) -> httpx.Client:
    key, credential = new_key("test", now=time.time(), scope=scope, quota=quota or Quota())
    server.keys.add(key)
    return httpx.Client(base_url=server.url, headers={"authorization": f"Key {credential}"})


def families(text: str) -> dict[str, str]:
    """Type by name, as a query would write the name."""
    return dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))


def test_the_documented_metrics_are_the_real_ones(server: Server) -> None:
    rows = re.findall(
        r"^\| `(hidream_edit_\w+)` \| (\w+) \|", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == families(server.client.get("/metrics").text)


def test_the_documented_labels_are_the_real_ones(server: Server) -> None:
    server.client.post(APP, json=an_input())
    table = re.findall(
        r"^\| `hidream_edit_(\w+)` \| \w+ \| `(\w+)`", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE
    )
    names = "\n".join(samples(server))
    for metric, label in table:
        assert re.search(rf'^{metric}(_count)?{{{label}="', names, re.MULTILINE), (metric, label)


def test_an_edit_is_counted_once_with_its_times(server: Server) -> None:
    assert samples(server)['jobs_ended_total{state="completed"}'] == 0
    assert server.client.post(APP, json=an_input(num_inference_steps=3)).status_code == 200
    seen = samples(server)
    assert seen['jobs_ended_total{state="completed"}'] == 1
    assert seen["queue_seconds_count"] == 1
    assert seen['edit_seconds_count{steps="1-8"}'] == 1
    assert seen["steps_per_second_count"] == seen["encode_seconds_count"] == 1
    assert seen['edit_seconds_bucket{le="+Inf",steps="1-8"}'] == 1
    assert seen["blob_bytes"] > 0
    assert seen['runners{state="ready"}'] == 1
    assert seen['store_seconds_count{kind="write"}'] > 0


def test_previews_are_timed(slow_server: Server) -> None:
    with slow_server.client.stream("POST", f"{APP}/stream", json=an_input()) as response:
        response.read()
    assert samples(slow_server)["preview_seconds_count"] >= 1


def test_buckets_hold_everything_below_their_bound(server: Server) -> None:
    for _ in range(3):
        server.client.post(APP, json=an_input())
    seen = samples(server)
    buckets = [value for name, value in seen.items() if name.startswith("queue_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == seen["queue_seconds_count"] == 3


def test_who_waits_shows_by_priority_with_the_age_of_the_oldest(idle_server: Server) -> None:
    idle_server.submit()
    idle_server.client.post(f"/queue{APP}", json=an_input(), headers={"x-fal-queue-priority": "low"})
    time.sleep(0.02)
    seen = samples(idle_server)
    assert (seen['queue_depth{priority="normal"}'], seen['queue_depth{priority="low"}']) == (1, 1)
    assert 0.02 <= seen["queue_oldest_seconds"] < 60
    assert seen["running_jobs"] == 0


def test_refusals_are_counted_by_reason(idle_server: Server) -> None:
    client = idle_server.client
    client.post(APP, json={"edit_instruction": "no picture"})
    client.post(f"/queue{APP}", json={"edit_instruction": "no picture"})
    client.post(f"/queue{APP}?fal_max_queue_length=many", json=an_input())
    idle_server.submit()
    client.post(f"/queue{APP}?fal_max_queue_length=0", json=an_input())
    client.post(APP, content=b"x" * 2_000_001)
    with (
        client_with(idle_server, quota=Quota(rate_per_minute=1)) as hasty,
        client_with(idle_server, quota=Quota(concurrent_max=1)) as broad,
        client_with(idle_server, quota=Quota(bytes_max=1)) as hoarder,
    ):
        for limited in (hasty, broad):
            assert [limited.post(f"/queue{APP}", json=an_input()).status_code for _ in range(2)] == [200, 429]
        assert hoarder.post("/files/upload", content=b"abc", headers={"content-type": "image/png"}).status_code == 413
        assert hoarder.get("/admin/overview").status_code == 403
    seen = samples(idle_server)
    reasons = {reason: seen[f'rejects_total{{reason="{reason}"}}'] for reason in ("rate", "concurrent", "queue_full")}
    assert reasons == {"rate": 1, "concurrent": 1, "queue_full": 1}
    assert seen['rejects_total{reason="input"}'] == 3
    assert seen['rejects_total{reason="auth"}'] == 1
    assert seen['rejects_total{reason="too_large"}'] == 1
    assert seen['rejects_total{reason="storage"}'] == 1


def test_a_question_about_a_request_that_is_not_there_is_no_refusal(server: Server) -> None:
    before = samples(server)
    assert server.client.get(f"/queue{APP}/requests/nothing/status").status_code == 404
    after = samples(server)
    assert {name for name in after if name.startswith("rejects") and after[name] != before[name]} == set()


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        {"via": "1.1 proxy"},
        {"origin": "https://a-page.example"},
        {"host": "rebound.example"},
    ],
)
def test_a_call_for_somebody_else_needs_an_admin_key_although_it_comes_from_here(
    server: Server, headers: dict[str, str]
) -> None:
    with client_with(server) as user, client_with(server, scope=Scope.ADMIN) as admin:
        assert httpx.get(f"{server.url}/metrics").status_code == 200
        assert httpx.get(f"{server.url}/metrics", headers=headers).status_code == 401
        assert user.get("/metrics", headers=headers).status_code == 403
        assert "queue_oldest_seconds" in samples(server, admin)
        assert admin.get("/metrics", headers=headers).status_code == 200


def test_without_a_database_the_numbers_of_the_process_still_come(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(server.store, "measures", gone)
    seen = samples(server)
    assert seen["store_up"] == 0
    assert 'rejects_total{reason="unavailable"}' in seen
    assert "running_jobs" not in seen
