"""Responses that outlive a connection."""
