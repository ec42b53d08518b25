"""Durable jobs: the line, the watchers, and the stores."""
