"""Outgoing calls: signed, durable, tried again."""
