"""What may be left out of an edit that need not be exact: off by default, measured, and said in the result."""
