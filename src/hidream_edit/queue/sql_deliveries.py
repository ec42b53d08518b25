"""The duty to tell a caller's address of an end, in the database."""

from __future__ import annotations

from hidream_edit.domain.deliveries import Delivery, DeliveryAttempt, DeliveryState
from hidream_edit.domain.measures import GIVEN_UP, TRIED_AGAIN, WEBHOOK_FAILURES, observed
from hidream_edit.queue.sql_totals import SqlTotals


class SqlDeliveries(SqlTotals):
    """See `JobStore`. The duty itself is written by whoever ends the job, in the same transaction."""

    def claim_delivery(self, *, now: float, lease_seconds: float) -> Delivery | None:
        if self._one("next_delivery", now=now) is None:
            return None
        with self.writing():
            row = self._one("claim_delivery", now=now, until=now + lease_seconds)
            return None if row is None else Delivery(row["job_id"], row["url"], row["attempt"])

    def record_attempt(self, delivery: Delivery, attempt: DeliveryAttempt, *, next_at: float | None) -> None:
        state = "delivered" if attempt.error is None else "pending" if next_at is not None else "failed"
        values = {"job_id": delivery.job_id, "number": delivery.attempt, "state": state, "due_at": next_at}
        values |= {"at": attempt.at, "seconds": attempt.seconds, "status": attempt.status, "error": attempt.error}
        with self.writing():
            if self._one("delivery_of_job", job_id=delivery.job_id) is None:
                return
            self.execute("insert_attempt", **values)
            # A try that was overtaken by another sender is written down, and decides nothing any more.
            if self.execute("settle_delivery", **values) and attempt.error is not None:
                outcome = GIVEN_UP if next_at is None else TRIED_AGAIN
                self._measure([observed(WEBHOOK_FAILURES, label=outcome)])

    def attempts(self, job_id: str) -> list[DeliveryAttempt]:
        rows = self.fetch("attempts_of_delivery", job_id=job_id)
        return [DeliveryAttempt(row["at"], row["seconds"], row["status"], row["error"]) for row in rows]

    def deliveries(self, limit: int) -> list[DeliveryState]:
        return [DeliveryState(**row) for row in self.fetch("recent_deliveries", limit=limit)]

    def redeliver(self, job_id: str, *, now: float) -> bool:
        with self.writing():
            return self.execute("redeliver", job_id=job_id, now=now) == 1
