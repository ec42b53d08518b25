-- Files of callers and results; their bytes lie in the object store, under the same name.
CREATE TABLE blobs (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    file_name TEXT NOT NULL,
    access TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX blobs_by_end ON blobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX blobs_by_caller ON blobs (caller, expires_at, size);

-- When somebody last looked for bytes that no row names.
CREATE TABLE sweeps (swept_at REAL NOT NULL);
INSERT INTO sweeps VALUES (0);

-- How many bytes a key may store; NULL leaves it to the server's settings.
ALTER TABLE keys ADD COLUMN bytes_max INTEGER;
-- Who may read the pictures that a job makes.
ALTER TABLE jobs ADD COLUMN access TEXT NOT NULL DEFAULT 'allow';
