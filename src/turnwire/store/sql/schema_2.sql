-- Schema version 2: conversations, beside the forest of turns.
--
-- A conversation holds its items itself: turns come and go with their responses, conversations
-- stay until they are deleted.

CREATE TABLE conversation (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    created_at INTEGER NOT NULL,  -- Unix seconds
    edition INTEGER NOT NULL,  -- deletions so far
    length INTEGER NOT NULL,  -- the newest position that was given
    response TEXT,  -- id of the one appended last; null once an item was deleted
    covered INTEGER NOT NULL,  -- `length` when it was appended
    metadata BLOB NOT NULL
);

CREATE TABLE conversation_item (
    key INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversation (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    id TEXT NOT NULL,
    tokens BLOB NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (conversation, position),
    UNIQUE (conversation, id)
);
