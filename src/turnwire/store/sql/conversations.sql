-- Every statement that SqliteStore runs on conversations. "-- name:" opens one.

-- name: add
INSERT INTO conversation (id, owner, created_at, edition, length, covered, metadata)
VALUES (:id, :owner, :created_at, 0, 0, 0, :metadata);

-- name: find
-- The conversation, and in front of it its key.
SELECT key, id, owner, created_at, edition, length, response, covered, metadata
FROM conversation
WHERE id = :id AND owner = :owner;

-- name: set_metadata
UPDATE conversation SET metadata = :metadata WHERE id = :id AND owner = :owner;

-- name: delete
DELETE FROM conversation WHERE id = :id AND owner = :owner;

-- name: add_item
INSERT INTO conversation_item (conversation, position, id, tokens, body)
VALUES (:conversation, :position, :id, :tokens, :body);

-- name: grow
UPDATE conversation SET length = :length WHERE key = :conversation;

-- name: cover
UPDATE conversation SET length = :length, covered = :length, response = :response
WHERE key = :conversation;

-- name: item
SELECT item.id, item.position, item.tokens, item.body
FROM conversation
JOIN conversation_item AS item ON item.conversation = conversation.key
WHERE conversation.id = :id AND conversation.owner = :owner AND item.id = :item;

-- name: taken
-- Which of the ids in a JSON array are given.
SELECT item.id
FROM json_each(:items) AS asked
JOIN conversation ON conversation.id = :id AND conversation.owner = :owner
JOIN conversation_item AS item
    ON item.conversation = conversation.key AND item.id = asked.value;

-- name: items_ascending
-- A conversation without items gives one row of nulls, an unknown one none.
SELECT item.id, item.position, item.tokens, item.body
FROM conversation
LEFT JOIN conversation_item AS item
    ON item.conversation = conversation.key AND item.position > :after
WHERE conversation.id = :id AND conversation.owner = :owner
ORDER BY item.position
LIMIT :limit;

-- name: items_descending
SELECT item.id, item.position, item.tokens, item.body
FROM conversation
LEFT JOIN conversation_item AS item
    ON item.conversation = conversation.key AND item.position < :after
WHERE conversation.id = :id AND conversation.owner = :owner
ORDER BY item.position DESC
LIMIT :limit;

-- name: delete_item
DELETE FROM conversation_item
WHERE id = :item
    AND conversation = (SELECT key FROM conversation WHERE id = :id AND owner = :owner);

-- name: cut
-- An item is gone: what the last response left is no longer what the conversation holds.
UPDATE conversation SET edition = edition + 1, response = NULL
WHERE id = :id AND owner = :owner;
