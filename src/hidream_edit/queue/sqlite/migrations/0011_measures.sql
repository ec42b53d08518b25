-- Totals since the database was made: counters, and histograms with a row for each bound that something fell under.
CREATE TABLE measures (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    bound TEXT NOT NULL,
    number INTEGER NOT NULL,
    total REAL NOT NULL,
    PRIMARY KEY (name, label, bound)
) WITHOUT ROWID;
