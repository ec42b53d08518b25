"""What processes tell of themselves: log lines, and numbers that they count."""
