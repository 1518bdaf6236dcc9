"""Context and settings in, parts out: one shape above, whichever engine serves it below."""
