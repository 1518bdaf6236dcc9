"""THE SHELL: sockets, and what happens on them. Decisions are made in the rooms below."""
