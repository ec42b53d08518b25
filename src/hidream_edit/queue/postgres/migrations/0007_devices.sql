-- What a runner's engine runs on.
ALTER TABLE runners ADD COLUMN device TEXT NOT NULL DEFAULT '';
