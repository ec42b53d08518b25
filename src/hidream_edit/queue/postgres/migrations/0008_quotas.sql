-- What a key may do, and how much of it; NULL leaves it to the server's settings.
ALTER TABLE keys ADD COLUMN scope TEXT NOT NULL DEFAULT 'use';
ALTER TABLE keys ADD COLUMN rate_per_minute DOUBLE PRECISION;
ALTER TABLE keys ADD COLUMN concurrent_max INTEGER;

-- Requests that a caller may still make at once.
CREATE TABLE buckets (
    caller TEXT PRIMARY KEY,
    tokens DOUBLE PRECISION NOT NULL,
    filled_at DOUBLE PRECISION NOT NULL
);

-- What was done with keys, and when; nothing here is ever changed.
CREATE TABLE key_actions (
    number BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key_id TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    action TEXT NOT NULL
);
