-- Every statement that SqliteStore runs on turns. "-- name:" opens one.

-- name: find_node
-- The key of a node that a new turn of this owner may continue, deleted or not.
SELECT key FROM node WHERE id = :id AND owner = :owner;

-- name: add_node
INSERT INTO node (id, owner, parent, created_at, items, output, tokens)
VALUES (:id, :owner, :parent, :created_at, :items, :output, :tokens);

-- name: add_response
INSERT INTO response (node, body) VALUES (:node, :body);

-- name: begin
INSERT INTO running (node, runner) VALUES (:node, :runner);

-- name: end_run
-- The key of a node that was running until now, or no row.
DELETE FROM running
WHERE node = (SELECT key FROM node WHERE id = :id AND owner = :owner)
RETURNING node;

-- name: finish_node
UPDATE node SET output = :output, tokens = :tokens WHERE key = :node;

-- name: finish_response
UPDATE response SET body = :body WHERE node = :node;

-- name: runners
SELECT DISTINCT runner FROM running;

-- name: run_by
-- What a process runs, or ran until it ended; oldest first.
SELECT node.id, node.owner, parent.id, node.created_at,
    response.body, node.items, node.output, node.tokens
FROM running
JOIN node ON node.key = running.node
JOIN response ON response.node = running.node
LEFT JOIN node AS parent ON parent.key = node.parent
WHERE running.runner = :runner
ORDER BY running.node;

-- name: get
SELECT node.id, node.owner, parent.id, node.created_at,
    response.body, node.items, node.output, node.tokens
FROM node
JOIN response ON response.node = node.key
LEFT JOIN node AS parent ON parent.key = node.parent
WHERE node.id = :id AND node.owner = :owner;

-- name: chain
-- A live turn and everything before it, in no promised order. Of a deleted ancestor there is no
-- body. An owner's turns continue only that owner's, so asking about the last one is enough.
WITH RECURSIVE past (key, parent) AS (
    SELECT node.key, node.parent
    FROM node
    JOIN response ON response.node = node.key
    WHERE node.id = :id AND node.owner = :owner
    UNION ALL
    SELECT node.key, node.parent
    FROM past
    JOIN node ON node.key = past.parent
)
SELECT past.key, node.id, node.owner, node.created_at,
    response.body, node.items, node.output, node.tokens
FROM past
JOIN node ON node.key = past.key
LEFT JOIN response ON response.node = past.key;

-- name: delete_response
DELETE FROM response
WHERE node = (SELECT key FROM node WHERE id = :id AND owner = :owner);

-- name: begin_linger
INSERT INTO linger (node, until)
SELECT key, :until FROM node WHERE id = :id;

-- name: next_linger
-- When the next deleted turn has lingered long enough, or null if none lingers.
SELECT min(until) FROM linger;

-- name: find_lingered
SELECT node FROM linger WHERE until <= :now ORDER BY until LIMIT :limit;

-- name: end_linger
DELETE FROM linger WHERE node = :node;

-- name: drop_node
-- Remove a node that nothing needs any more; its parent may be the next.
DELETE FROM node
WHERE key = :node
    AND NOT EXISTS (SELECT 1 FROM response WHERE response.node = :node)
    AND NOT EXISTS (SELECT 1 FROM linger WHERE linger.node = :node)
    AND NOT EXISTS (SELECT 1 FROM node AS child WHERE child.parent = :node)
RETURNING parent;
