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
RETURNING {columns_of_job};

-- advance_turn: the line has come as far as the job that was just claimed.
UPDATE clock SET turn = greatest(turn, :turn);

-- known_blobs: those of a list that have a row.
SELECT id FROM blobs WHERE id IN (SELECT value FROM jsonb_array_elements_text(CAST(:ids AS jsonb)) AS value);

-- add_to_measures: many in one statement.
INSERT INTO measures (name, label, bound, number, total)
SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS DOUBLE PRECISION)
FROM jsonb_array_elements(CAST(:observations AS jsonb)) AS value
ON CONFLICT (name, label, bound) DO UPDATE
SET number = measures.number + excluded.number, total = measures.total + excluded.total;

-- database_time: by the server's clock.
SELECT extract(epoch FROM clock_timestamp()) AS now;
