"""Attacks on what reads bytes from strangers: `python -m fuzz NAME --seconds N`."""
