-- lock_clock: writers stand in line here, so that revisions become visible in their order, in whatever process.
SELECT revision FROM clock FOR UPDATE;

-- next_turn: one behind the caller's last waiting job, or behind the job that was claimed last.
SELECT greatest(clock.turn, coalesce((SELECT max(turn) FROM jobs WHERE caller = :caller AND state = 'queued'), 0)) + 1
FROM clock;

-- claim_job: hand the first job in the line to a runner.
-- Writers already stand in line at the clock; SKIP LOCKED keeps a claim from waiting for whoever reads with a lock.
UPDATE jobs
SET state = 'running', attempt = attempt + 1, revision = :revision, started_at = :now, runner_id = :runner_id,
    lease_token = :lease_token, lease_expires_at = :lease_expires_at
WHERE id = (
    SELECT id FROM jobs
    WHERE state = 'queued' AND (start_deadline IS NULL OR start_deadline > :now)
    ORDER BY priority, turn, sequence LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- advance_turn: the line has come as far as the job that was just claimed.
UPDATE clock SET turn = greatest(turn, :turn);

-- known_blobs: those of a list that have a row.
SELECT id FROM blobs WHERE id IN (SELECT value FROM jsonb_array_elements_text(CAST(:ids AS jsonb)) AS value);
