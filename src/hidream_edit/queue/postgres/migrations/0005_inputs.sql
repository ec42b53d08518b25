-- What a job is to do, apart from where it stands: an input may be megabytes, and a job's row is rewritten with every
-- change and read by everybody who follows.
CREATE TABLE inputs (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    input TEXT NOT NULL
);
INSERT INTO inputs SELECT id, input FROM jobs;
ALTER TABLE jobs DROP COLUMN input;
