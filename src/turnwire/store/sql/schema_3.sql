-- Schema version 3: responses that still run.
--
-- A node with a row here was begun and is not finished. Its runner is the process that runs it;
-- the name means something as long as that process holds the lock of that name (see locks.py).

CREATE TABLE running (
    node INTEGER PRIMARY KEY REFERENCES node (key),
    runner TEXT NOT NULL
);

CREATE INDEX running_by_runner ON running (runner, node);
