-- Who works on jobs, and what each is doing. A row that is not refreshed is a runner that is gone.
CREATE TABLE runners (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    engine TEXT NOT NULL,
    seen_at DOUBLE PRECISION NOT NULL,
    -- Of the loaded model, so that the API can say what a field is when it is left out.
    defaults TEXT NOT NULL
);
