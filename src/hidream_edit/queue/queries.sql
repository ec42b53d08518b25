-- columns_of_job: named one by one, so that programs go on when a newer one adds some; a prepared `*` would fail then.
id, sequence, revision, caller, state, priority, turn, attempt, attempts_max, output, failure, wants_previews,
    webhook_url, origin, idempotency_key, queued_at, started_at, finished_at, start_deadline, keep_seconds, runner_id,
    lease_token, lease_expires_at, cancel_requested, store_io, access, instruction, traceparent;

-- columns_of_key: what is read of a key.
id, name, secret_hash, created_at, revoked_at, scope, rate_per_minute, concurrent_max, bytes_max;

-- next_revision: the number of the next change; every write of a job carries one.
UPDATE clock SET revision = revision + 1 RETURNING revision;

-- next_sequence: the number of the next submit.
UPDATE clock SET sequence = sequence + 1 RETURNING sequence;

-- job_by_key: the job that an earlier submit with the same key made.
SELECT {columns_of_job} FROM jobs WHERE caller = :caller AND idempotency_key = :idempotency_key;

-- count_queued: how many wait.
SELECT count(*) FROM jobs WHERE state = 'queued';

-- insert_job: a new job at the end of its caller's line.
INSERT INTO jobs (
    id, sequence, revision, caller, state, priority, turn, attempts_max, wants_previews, webhook_url, origin,
    idempotency_key, queued_at, start_deadline, keep_seconds, store_io, access, instruction, traceparent
) VALUES (
    :id, :sequence, :revision, :caller, 'queued', :priority, :turn, :attempts_max, :wants_previews, :webhook_url,
    :origin, :idempotency_key, :queued_at, :start_deadline, :keep_seconds, :store_io, :access,
    :instruction, :traceparent
) RETURNING {columns_of_job};

-- insert_input: what it is to do.
INSERT INTO inputs (job_id, input) VALUES (:id, :input);

-- input_of_job: what it is to do.
SELECT input FROM inputs WHERE job_id = :id;

-- next_in_line: whom a claim would take; its order is that of `claim_job`.
SELECT {columns_of_job} FROM jobs
WHERE state = 'queued' AND (start_deadline IS NULL OR start_deadline > :now)
ORDER BY priority, turn, sequence LIMIT 1;

-- extend_lease: the runner is alive.
UPDATE jobs SET lease_expires_at = :lease_expires_at
WHERE lease_token = :lease_token AND state = 'running'
RETURNING cancel_requested;

-- job_under_lease: the job that a runner may write to.
SELECT {columns_of_job} FROM jobs WHERE id = :id AND lease_token = :lease_token AND state = 'running';

-- last_event: the number of the newest event of a job.
SELECT coalesce(max(number), 0) FROM events WHERE job_id = :job_id;

-- insert_event: one more event.
INSERT INTO events (job_id, number, at, level, message, facts)
VALUES (:job_id, :number, :at, :level, :message, :facts);

-- touch_job: something happened that watchers want to see.
UPDATE jobs SET revision = :revision WHERE id = :id;

-- finish_job: the final state, and whatever came of it. The lease ends here.
UPDATE jobs
SET state = :state, output = :output, failure = :failure, finished_at = :now, revision = :revision,
    lease_token = NULL, lease_expires_at = NULL
WHERE id = :id
RETURNING {columns_of_job};

-- requeue_job: back to the line, at its old place.
UPDATE jobs
SET state = 'queued', attempt = :attempt, started_at = NULL, runner_id = NULL, lease_token = NULL,
    lease_expires_at = NULL, revision = :revision
WHERE id = :id
RETURNING {columns_of_job};

-- forget_input: it will not be needed again.
DELETE FROM inputs WHERE job_id = :id;

-- keep_until: shorten the time that a finished job is kept.
UPDATE jobs SET keep_seconds = :until - finished_at, revision = :revision
WHERE id = :id AND finished_at + keep_seconds > :until
RETURNING {columns_of_job};

-- request_cancel: the runner will read it with its next heartbeat.
UPDATE jobs SET cancel_requested = true, revision = :revision WHERE id = :id RETURNING {columns_of_job};

-- job_by_id: one job.
SELECT {columns_of_job} FROM jobs WHERE id = :id;

-- events_after: a job's events from a number on.
SELECT number, at, message, level, facts FROM events WHERE job_id = :job_id AND number > :after ORDER BY number;

-- changed_since: what watchers have not seen yet.
SELECT {columns_of_job} FROM jobs WHERE revision > :revision ORDER BY revision LIMIT :limit;

-- recent_jobs: those submitted last.
SELECT {columns_of_job} FROM jobs ORDER BY sequence DESC LIMIT :limit;

-- jobs_of_caller: those submitted last that an instruction finds.
SELECT {columns_of_job} FROM jobs
WHERE caller = :caller AND sequence < :before AND lower(instruction) LIKE :pattern ESCAPE '!'
ORDER BY sequence DESC LIMIT :limit;

-- current_revision: of the last change.
SELECT revision FROM clock;

-- line: everybody who waits, in order.
SELECT id, priority FROM jobs WHERE state = 'queued' ORDER BY priority, turn, sequence;

-- jobs_without_runner: their lease ended.
SELECT {columns_of_job} FROM jobs WHERE state = 'running' AND lease_expires_at <= :now;

-- jobs_too_late: still waiting past their start deadline.
SELECT {columns_of_job} FROM jobs WHERE state = 'queued' AND start_deadline <= :now;

-- delete_old: finished, and kept for as long as promised. Their events go with them.
DELETE FROM jobs WHERE finished_at IS NOT NULL AND finished_at + keep_seconds <= :now;

-- announce_runner: a runner says that it is there, and what it is doing.
INSERT INTO runners (id, state, engine, device, safety, seen_at, defaults, examples, memory_bytes)
VALUES (:id, :state, :engine, :device, :safety, :seen_at, :defaults, :examples, :memory_bytes)
ON CONFLICT (id) DO UPDATE
SET state = :state, engine = :engine, device = :device, safety = :safety, seen_at = :seen_at, defaults = :defaults,
    examples = :examples, memory_bytes = :memory_bytes;

-- runners_seen_since: those who are there.
SELECT id, state, engine, seen_at, defaults, device, safety, examples, memory_bytes FROM runners WHERE seen_at > :since ORDER BY id;

-- forget_runner: it has ended in order.
DELETE FROM runners WHERE id = :id;

-- forget_silent_runners: they ended without a word.
DELETE FROM runners WHERE seen_at <= :since;

-- insert_delivery: somebody has to be told.
INSERT INTO deliveries (job_id, url, state, attempt, due_at) VALUES (:job_id, :url, 'pending', 0, :due_at);

-- next_delivery: whether one is due.
SELECT job_id FROM deliveries WHERE state = 'pending' AND due_at <= :now LIMIT 1;

-- claim_delivery: take the one that is due longest; if the sender dies, it is due again when its time is over.
UPDATE deliveries SET attempt = attempt + 1, due_at = :until
WHERE job_id = (
    SELECT job_id FROM deliveries WHERE state = 'pending' AND due_at <= :now ORDER BY due_at, job_id LIMIT 1
)
RETURNING job_id, url, attempt;

-- recent_deliveries: of the newest jobs, each with what was wrong last.
SELECT deliveries.job_id, url, deliveries.state, deliveries.attempt, due_at, (
    SELECT error FROM delivery_attempts WHERE job_id = deliveries.job_id ORDER BY number DESC LIMIT 1
) AS error
FROM deliveries JOIN jobs ON jobs.id = deliveries.job_id ORDER BY jobs.sequence DESC LIMIT :limit;

-- redeliver: it is due again, whatever became of it.
UPDATE deliveries SET state = 'pending', due_at = :now WHERE job_id = :job_id;

-- insert_attempt: what came of a try.
INSERT INTO delivery_attempts (job_id, number, at, seconds, status, error)
VALUES (:job_id, :number, :at, :seconds, :status, :error);

-- delivery_of_job: whether there is one.
SELECT job_id FROM deliveries WHERE job_id = :job_id;

-- settle_delivery: done, given up, or due again, as its newest try says.
UPDATE deliveries SET state = :state, due_at = :due_at WHERE job_id = :job_id AND attempt = :number;

-- attempts_of_delivery: all tries.
SELECT at, seconds, status, error FROM delivery_attempts WHERE job_id = :job_id ORDER BY number;

-- insert_key: a new caller.
INSERT INTO keys (id, name, secret_hash, created_at, scope, rate_per_minute, concurrent_max, bytes_max)
VALUES (:id, :name, :secret_hash, :created_at, :scope, :rate_per_minute, :concurrent_max, :bytes_max);

-- insert_key_action: what was done with a key.
INSERT INTO key_actions (key_id, at, action) VALUES (:key_id, :at, :action);

-- key_actions: all of them, the newest first.
SELECT key_id, at, action FROM key_actions ORDER BY number DESC LIMIT :limit;

-- bucket_of_caller: as it was after the last request.
SELECT tokens, filled_at FROM buckets WHERE caller = :caller;

-- keep_bucket: after a request.
INSERT INTO buckets (caller, tokens, filled_at) VALUES (:caller, :tokens, :filled_at)
ON CONFLICT (caller) DO UPDATE SET tokens = :tokens, filled_at = :filled_at;

-- forget_full_buckets: a bucket that was not used for long is full again.
DELETE FROM buckets WHERE filled_at <= :since;

-- count_active: how many of a caller's requests wait or run.
SELECT (SELECT count(*) FROM jobs WHERE caller = :caller AND state = 'queued')
    + (SELECT count(*) FROM jobs WHERE caller = :caller AND state = 'running');

-- key_by_id: the key that a caller presents, unless it was revoked.
SELECT {columns_of_key} FROM keys WHERE id = :id AND revoked_at IS NULL;

-- all_keys: also the revoked ones.
SELECT {columns_of_key} FROM keys ORDER BY created_at, id;

-- count_keys: whether there ever was a key. Revoking the last one must not open the door to everybody.
SELECT count(*) AS number FROM keys;

-- revoke_key: from now on it opens nothing.
UPDATE keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL;

-- keep_blob: the blob exists from now on; a client that repeats its upload stores it once more.
INSERT INTO blobs (id, caller, content_type, size, created_at, expires_at, file_name, access)
VALUES (:id, :caller, :content_type, :size, :created_at, :expires_at, :file_name, :access)
ON CONFLICT (id) DO UPDATE SET
    caller = excluded.caller, content_type = excluded.content_type, size = excluded.size,
    created_at = excluded.created_at, expires_at = excluded.expires_at, file_name = excluded.file_name,
    access = excluded.access;

-- blob_by_id: what is known of it.
SELECT id, caller, content_type, size, created_at, expires_at, file_name, access FROM blobs WHERE id = :id;

-- forget_blob: it does not exist any more.
DELETE FROM blobs WHERE id = :id;

-- bytes_of_caller: what a caller has stored.
SELECT coalesce(sum(size), 0) AS bytes FROM blobs
WHERE caller = :caller AND (expires_at IS NULL OR expires_at > :now);

-- expired_blobs: those whose time is over.
SELECT id FROM blobs WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit;

-- last_sweep: when somebody last looked for bytes without a row.
SELECT swept_at FROM sweeps;

-- begin_sweep: one process looks, the others need not.
UPDATE sweeps SET swept_at = :now WHERE swept_at <= :before;

-- all_measures: few rows; a bound that nothing fell under has none.
SELECT name, label, bound, number, total FROM measures;

-- waiting_by_priority: how many, and since when.
SELECT priority, count(*) AS number, min(queued_at) AS oldest FROM jobs WHERE state = 'queued'
GROUP BY priority ORDER BY priority;

-- count_running: how many are being edited.
SELECT count(*) FROM jobs WHERE state = 'running';

-- all_bytes: what is stored, the files whose time is over but which are still there too.
SELECT coalesce(sum(size), 0) AS bytes FROM blobs;

-- oldest_program: the first schema whose programs can work with this database.
SELECT oldest FROM compatibility;

-- raise_oldest: a step was taken that older programs cannot bear.
UPDATE compatibility SET oldest = :oldest WHERE oldest < :oldest;
