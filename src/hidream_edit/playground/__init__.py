"""The web page: its files, which need no build step."""
