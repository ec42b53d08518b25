-- What a key may do, and how much of it; NULL leaves it to the server's settings.
ALTER TABLE keys ADD COLUMN scope TEXT NOT NULL DEFAULT 'use';
ALTER TABLE keys ADD COLUMN rate_per_minute REAL;
ALTER TABLE keys ADD COLUMN concurrent_max INTEGER;

-- Requests that a caller may still make at once.
CREATE TABLE buckets (
    caller TEXT PRIMARY KEY,
    tokens REAL NOT NULL,
    filled_at REAL NOT NULL
) WITHOUT ROWID;

-- What was done with keys, and when; nothing here is ever changed.
CREATE TABLE key_actions (
    number INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL,
    at REAL NOT NULL,
    action TEXT NOT NULL
);
