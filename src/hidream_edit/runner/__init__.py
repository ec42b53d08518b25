"""A process that owns one engine and works on jobs."""
