"""``python -m hidream_edit``."""

from hidream_edit.cli.main import run

if __name__ == "__main__":
    run()
