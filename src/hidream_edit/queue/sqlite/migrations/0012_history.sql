-- The words of an edit, to find it again; empty where input is not to be stored.
ALTER TABLE jobs ADD COLUMN instruction TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_by_caller ON jobs (caller, sequence);

-- What a runner's model can do, in words, and the memory that it takes.
ALTER TABLE runners ADD COLUMN examples TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runners ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;
