"""Look for known vulnerabilities in what the constraints pin, and for secrets in what git keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
# Tables of words and hashes, in which everything looks like a secret.
TABLES = r"(^|/)(tokenizer\.json|vocab\.json|merges\.txt|package-lock\.json|constraints\.txt)$"


def vulnerable() -> bool:
    """Whether a pinned package has a known vulnerability. Says so where nobody could be asked."""
    command = [BIN / "pip-audit", "--no-deps", "--disable-pip", "--format", "json", "--requirement", "constraints.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        sys.stdout.write(f"dependencies: nobody could be asked ({done.stderr.strip().splitlines()[-1][:120]})\n")
        return False
    found = [(one["name"], bad["id"], bad["fix_versions"]) for one in packages for bad in one.get("vulns", ())]
    skipped = sum("skip_reason" in one for one in packages)
    for name, advisory, fixes in found:
        sys.stdout.write(f"dependencies: {name}: {advisory}, mended in {', '.join(fixes) or 'no version yet'}\n")
    told = f"{len(packages) - skipped} of {len(packages)} asked about, {len(found)} advisories"
    if skipped == len(packages):
        told = "the package index here has no advisories: NOTHING was audited; run this where PyPI itself is reached"
    sys.stdout.write(f"dependencies: {told}\n")
    return bool(found)


def leaking() -> bool:
    """Whether a file that git keeps holds what looks like a secret."""
    files = subprocess.check_output(["git", "ls-files", "-z"], text=True).rstrip("\0").split("\0")
    there = [file for file in files if Path(file).is_file()]
    command = [BIN / "detect-secrets-hook", "--exclude-files", TABLES, *there]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    sys.stdout.write(f"secrets: {len(there)} files, {'SOME FOUND' if done.returncode else 'none found'}\n")
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(any([vulnerable(), leaking()]))
