-- The first schema whose programs can work with this database; steps after this one raise it, or leave it as it is.
CREATE TABLE compatibility (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    oldest INTEGER NOT NULL
);
INSERT INTO compatibility VALUES (1, 14);
