-- next_turn: one behind the caller's last waiting job, or behind the job that was claimed last.
SELECT max(clock.turn, coalesce((SELECT max(turn) FROM jobs WHERE caller = :caller AND state = 'queued'), 0)) + 1
FROM clock;

-- claim_job: hand the first job in the line to a runner.
-- SQLite has a single writer, so no row lock is needed; the PostgreSQL twin adds FOR UPDATE SKIP LOCKED.
UPDATE jobs
SET state = 'running', attempt = attempt + 1, revision = :revision, started_at = :now, runner_id = :runner_id,
    lease_token = :lease_token, lease_expires_at = :lease_expires_at
WHERE id = (
    SELECT id FROM jobs
    WHERE state = 'queued' AND (start_deadline IS NULL OR start_deadline > :now)
    ORDER BY priority, turn, sequence LIMIT 1
)
RETURNING {columns_of_job};

-- advance_turn: the line has come as far as the job that was just claimed.
UPDATE clock SET turn = max(turn, :turn);

-- known_blobs: those of a list that have a row.
SELECT id FROM blobs WHERE id IN (SELECT value FROM json_each(:ids));

-- add_to_measures: many in one statement. WHERE true keeps ON CONFLICT from being read as a join.
INSERT INTO measures (name, label, bound, number, total)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]')
FROM json_each(:observations) WHERE true
ON CONFLICT (name, label, bound) DO UPDATE SET number = number + excluded.number, total = total + excluded.total;
