"""Which parts of a model are where, and when: planned before anything loads."""
