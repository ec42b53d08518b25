-- What a runner checks pictures with.
ALTER TABLE runners ADD COLUMN safety TEXT NOT NULL DEFAULT 'unchecked';
