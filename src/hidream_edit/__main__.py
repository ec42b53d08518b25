"""``python -m hidream_edit``."""

from hidream_edit.cli.main import run

run()
