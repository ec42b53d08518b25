-- Whether input and output may be kept beyond what the answer needs.
ALTER TABLE jobs ADD COLUMN store_io BOOLEAN NOT NULL DEFAULT true;
