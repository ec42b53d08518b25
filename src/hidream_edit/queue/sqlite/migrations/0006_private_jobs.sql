-- Whether input and output may be kept beyond what the answer needs.
ALTER TABLE jobs ADD COLUMN store_io INTEGER NOT NULL DEFAULT 1;
