"""Print the requirements of a dependency group, one per line; pip older than 25.1 cannot read groups itself."""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
sys.stdout.write("\n".join(pyproject["dependency-groups"][sys.argv[1]]) + "\n")
