"""WHAT THE MODEL SEES: an immutable, structurally shared chain of turns."""
