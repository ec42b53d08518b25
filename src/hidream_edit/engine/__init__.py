"""The engine: PyTorch and nothing else. No HTTP, no SQL, no files but weights."""
