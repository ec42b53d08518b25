-- Totals since the database was made: counters, and histograms with a row for each bound that something fell under.
CREATE TABLE measures (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    bound TEXT NOT NULL,
    number BIGINT NOT NULL,
    total DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (name, label, bound)
) WITH (fillfactor = 50);  -- few rows that change often: room for new versions on their own page
