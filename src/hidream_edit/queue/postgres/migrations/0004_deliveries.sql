-- The duty to tell a caller's address how a job ended, and every try at it.
CREATE TABLE deliveries (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempt INTEGER NOT NULL,
    due_at DOUBLE PRECISION
);

CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state = 'pending';

CREATE TABLE delivery_attempts (
    job_id TEXT NOT NULL REFERENCES deliveries (job_id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    status INTEGER,
    error TEXT,
    PRIMARY KEY (job_id, number)
);
