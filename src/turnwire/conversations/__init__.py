"""Conversations: named lists of items that responses are made in, one at a time."""
