"""The small server beside a runner."""

from __future__ import annotations

import httpx

from hidream_edit.telemetry.meters import Meters
from hidream_edit.telemetry.side_door import SideDoor


def test_it_tells_alive_from_ready_and_shows_what_is_counted() -> None:
    meters, words = Meters(), ["loading"]
    meters.store_took("read", 0.01)
    with (
        SideDoor("127.0.0.1", 0, meters, lambda: words[0]) as door,
        httpx.Client(base_url=f"http://127.0.0.1:{door.port}") as client,
    ):
        assert client.get("/health/live").status_code == 200
        assert (client.get("/health/ready").status_code, client.get("/health/ready").json()) == (
            503,
            {"status": "loading"},
        )
        words[0] = "ready"
        assert client.get("/health/ready").status_code == 200
        assert 'hidream_edit_store_seconds_count{kind="read"} 1.0' in client.get("/metrics").text
        assert client.get("/else").status_code == 404


def test_two_processes_count_for_themselves() -> None:
    one, other = Meters(), Meters()
    one.rejected("rate")
    assert b'rejects_total{reason="rate"} 1.0' in one.text()
    assert b'rejects_total{reason="rate"} 0.0' in other.text()
