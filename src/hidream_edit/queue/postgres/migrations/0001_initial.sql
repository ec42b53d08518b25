-- One row that numbers submits and changes, and remembers how far the line has come.
CREATE TABLE clock (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    turn BIGINT NOT NULL
);
INSERT INTO clock VALUES (1, 0, 0, 0);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL UNIQUE,
    revision BIGINT NOT NULL,
    caller TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    priority INTEGER NOT NULL,
    -- Place of the job among all callers' jobs: the n-th waiting job of a caller stands n turns behind the one that
    -- was claimed last, so that a thousand jobs of one caller do not starve another's one.
    turn BIGINT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts_max INTEGER NOT NULL,
    input TEXT NOT NULL,
    output TEXT,
    failure TEXT,
    wants_previews BOOLEAN NOT NULL,
    webhook_url TEXT,
    -- How the caller reaches us; addresses in answers that nobody asked for begin with it.
    origin TEXT NOT NULL,
    idempotency_key TEXT,
    queued_at DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION,
    finished_at DOUBLE PRECISION,
    start_deadline DOUBLE PRECISION,
    keep_seconds DOUBLE PRECISION NOT NULL,
    runner_id TEXT,
    lease_token TEXT,
    lease_expires_at DOUBLE PRECISION,
    cancel_requested BOOLEAN NOT NULL DEFAULT false
);

CREATE INDEX jobs_in_line ON jobs (priority, turn, sequence) WHERE state = 'queued';
CREATE INDEX jobs_of_caller_in_line ON jobs (caller, turn) WHERE state = 'queued';
CREATE INDEX jobs_with_lease ON jobs (lease_expires_at) WHERE state = 'running';
CREATE INDEX jobs_by_lease ON jobs (lease_token) WHERE state = 'running';
CREATE INDEX jobs_with_deadline ON jobs (start_deadline) WHERE state = 'queued' AND start_deadline IS NOT NULL;
CREATE INDEX jobs_by_change ON jobs (revision);
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_once ON jobs (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE events (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    facts TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
);
