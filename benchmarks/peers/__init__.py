"""Other servers with a model that does nothing, to compare with; they run in an environment of their own."""
