-- Files of callers and results; their bytes lie in the object store, under the same name.
CREATE TABLE blobs (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION,
    file_name TEXT NOT NULL,
    access TEXT NOT NULL
);
CREATE INDEX blobs_by_end ON blobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX blobs_by_caller ON blobs (caller, expires_at, size);

-- When somebody last looked for bytes that no row names.
CREATE TABLE sweeps (swept_at DOUBLE PRECISION NOT NULL);
INSERT INTO sweeps VALUES (0);

-- How many bytes a key may store; NULL leaves it to the server's settings.
ALTER TABLE keys ADD COLUMN bytes_max BIGINT;
-- Who may read the pictures that a job makes.
ALTER TABLE jobs ADD COLUMN access TEXT NOT NULL DEFAULT 'allow';
