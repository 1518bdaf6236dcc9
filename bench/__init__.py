"""Benches: what Turnwire costs, with the target beside each number. Run: `python -m bench`."""
