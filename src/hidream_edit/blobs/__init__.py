"""Bytes by id, and where bytes come from."""
