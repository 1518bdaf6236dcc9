"""Token ids in, token ids out. Nothing here knows of items, JSON objects or sockets."""
