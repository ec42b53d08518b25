"""The HiDream image transformer, with the parameter names of the public checkpoint."""
