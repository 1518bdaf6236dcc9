"""Models behind any chat-completions endpoint: messages out, chunks in, parts for the turn."""
