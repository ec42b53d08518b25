"""Build wheel and sdist into a folder, from what git tracks: nothing that happens to lie around gets in.

    python scripts/package.py dist

The sdist is built first and the wheel from it, so that what is uploaded can be made from what is uploaded. Without a
network: the builder is hatchling as `constraints.txt` pins it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_tracked(folder: Path) -> Path:
    """The tracked files as they are now, committed or not."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # it may be deleted, and not yet for git
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def build(source: Path, out: Path, *options: str) -> None:
    """Build what the options of ``python -m build`` say; both, when they say nothing."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out.absolute()), *options, str(source)]
    # Not where a folder named `build` may lie: it would be taken for the program.
    subprocess.run(command, cwd=source.parent, check=True, env=os.environ | {"PYTHONSAFEPATH": "1"})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        build(copy_tracked(Path(folder) / "tracked"), Path(sys.argv[1]))
