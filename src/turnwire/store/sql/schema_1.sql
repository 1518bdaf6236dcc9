-- Schema version 1: a forest of turns.
--
-- A node is what a turn added to its conversation. It is needed while its response is there,
-- while it lingers (deleted not long ago), or while a node continues it; then it goes.
-- Keys grow from parent to child, and are 8 bytes where an id is 53.

CREATE TABLE node (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    parent INTEGER REFERENCES node (key),
    created_at INTEGER NOT NULL,  -- Unix seconds
    -- The large columns come last, so that following `parent` reads none of their pages.
    items BLOB NOT NULL,
    output BLOB NOT NULL,
    tokens BLOB NOT NULL
);

-- Finds a node's children: before it goes, and when the foreign key is checked.
CREATE INDEX node_by_parent ON node (parent);

-- Its row is the response; deleting a response deletes this row.
CREATE TABLE response (
    node INTEGER PRIMARY KEY REFERENCES node (key),
    body BLOB NOT NULL
);

CREATE TABLE linger (
    node INTEGER PRIMARY KEY REFERENCES node (key),
    until REAL NOT NULL  -- Unix seconds
);

CREATE INDEX linger_by_until ON linger (until);
