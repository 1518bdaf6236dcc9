"""A real server process under load, from another process."""
