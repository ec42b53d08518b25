-- Who works on jobs, and what each is doing. A row that is not refreshed is a runner that is gone.
CREATE TABLE runners (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    engine TEXT NOT NULL,
    seen_at REAL NOT NULL
) WITHOUT ROWID;
