"""One call, and what becomes of it when the network or the server has a bad moment."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from hidream_edit.client import retries
from hidream_edit.client.actions import Answer, Call, Pause, Talk
from hidream_edit.client.errors import NotReachable
from hidream_edit.client.server import Server


def asked(
    server: Server, call: Call, chance: Callable[[], float], attempts: int, request_id: str | None
) -> Talk[Answer]:
    """Make a call, again where that is safe and may help. ``chance`` gives numbers from 0 to 1.

    Raises:
        NotReachable: no answer came.
    """
    for attempt in range(1, attempts + 1):
        wait = retries.pause(attempt, chance())
        is_last, is_repeatable = attempt == attempts, call.is_repeatable
        try:
            answer: Answer = yield call
        except (httpx.HTTPError, httpx.InvalidURL) as lost:
            if is_last or not retries.is_worth_repeating(lost, is_repeatable=is_repeatable):
                raise not_reachable(server, call.url, lost, request_id) from lost
        else:
            if is_last or not retries.passes(answer.status, answer.headers, is_repeatable=is_repeatable):
                return answer
            wait = retries.retry_after(answer.headers, otherwise=wait)
            if wait > retries.RETRY_AFTER_MAX:
                return answer
        yield Pause(wait)
    raise AssertionError("the last attempt returns or raises")


def not_reachable(server: Server, url: str, lost: Exception, request_id: str | None = None) -> NotReachable:
    """Who did not answer, what happened, what to do."""
    who = server.url if url.startswith(server.url) else url.partition("?")[0]
    what = "no answer in time" if isinstance(lost, httpx.TimeoutException) else str(lost) or type(lost).__name__
    advice = "is the address right, and does `hidream-edit serve` run there?"
    if request_id is not None:
        advice = f"result({request_id!r}) fetches the edit once it is back"
    return NotReachable(f"{who} cannot be reached ({what}); {advice}", request_id=request_id)
