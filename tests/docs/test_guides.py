"""Every code block of the guides and concepts is run as it stands, in order, against a server that its own lines start.

What a reader's machine has and this one has not is stood in for: `localhost:8000` is the port that the server took, the
hosts file is a proxy, packages are already installed. Blocks for a GPU are checked word by word against the commands.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from tests.acceptance.conftest import Process
from tests.acceptance.test_official_clients import ConnectProxy

from hidream_edit.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs" / "guides").glob("*.md"), *(ROOT / "docs" / "concepts").glob("*.md")])
NODE_MODULES = ROOT / "tests" / "acceptance" / "js" / "node_modules"
NEEDS = "# needs "  # a GPU, Docker…: begins a block that is read word by word instead
RUN = ("sh", "python", "js")
SHOWN = ("text", "json", "yaml", "toml", "ini", "promql")  # nothing to run


class Block(NamedTuple):
    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(language, code) for language, code in found]


class Reader:
    """Somebody who types what a page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "examples" / "photo.jpg", folder / "photo.jpg")
        (folder / "node_modules").symlink_to(NODE_MODULES)
        self.server: Process | None = None
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HIDREAM_EDIT_SERVER_DATA": str(folder / "data"),
            "HF_HUB_OFFLINE": "1",
            "FAL_KEY": "any",
        }
        self._proxy: ConnectProxy | None = None

    def read(self, block: Block) -> None:
        if block.code.startswith(NEEDS) and block.language == "python":
            compile(block.code, "a block for a GPU", "exec")
        elif block.code.startswith(NEEDS):
            for line in block.code.splitlines()[1:]:
                check_command(line)
        elif block.language == "sh":
            for line in statements(block.code):
                self._type(line)
        elif block.language == "python":
            self._run([sys.executable, "-W", "ignore", "-c", self._here(block.code)])
        else:
            script = self.folder / "script.mjs"
            script.write_text(self._here(block.code))
            self._run(["node", str(script)])

    def _type(self, line: str) -> None:
        words = shlex.split(line)
        settings = [word for word in words if re.match(r"[A-Z_]+=", word)]
        command = [word for word in words if word not in settings]
        if command[:2] == ["pip", "install"]:
            check_install(command[2:])
        elif command[:2] == ["hidream-edit", "serve"]:
            self._serve(command[2:], dict(word.split("=", 1) for word in settings))
        else:
            self._run(["bash", "-euo", "pipefail", "-c", self._here(line)])

    def _serve(self, options: list[str], settings: dict[str, str]) -> None:
        self.stop()
        if "--port" in options:
            at = options.index("--port")
            del options[at : at + 2]
        self.server = Process(self.folder / "data", *options, **settings)
        ready = self.server.url.replace("https", "http", 1) if "--tls" not in options else None
        if ready is not None:
            self.server.wait_until_ready()
        else:
            self._stand_in_for_the_hosts_file()

    def _stand_in_for_the_hosts_file(self) -> None:
        assert self.server is not None
        self._proxy = ConnectProxy(int(self.server.url.rpartition(":")[2]))
        (authority,) = (self.folder / "data").rglob("authority.pem")
        self.environment |= {"HTTPS_PROXY": self._proxy.url, "SSL_CERT_FILE": str(authority)}

    def _here(self, text: str) -> str:
        if self.server is None:
            return text
        return text.replace("http://localhost:8000", self.server.url).replace(
            "localhost:8000", self.server.url.partition("//")[2]
        )

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, capture_output=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def stop(self) -> None:
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None
            self.environment.pop("HTTPS_PROXY", None)
            self.environment.pop("SSL_CERT_FILE", None)
        if self.server is not None:
            self.server.close()
            self.server = None


def statements(code: str) -> list[str]:
    """Lines, joined where one goes on in the next; remarks are left out."""
    joined = code.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def check_install(packages: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package in packages:
        name, _, wanted = package.partition("[")
        if name == "hidream-edit" and wanted:
            assert set(wanted.rstrip("]").split(",")) <= extras.keys(), package


def check_command(line: str) -> None:
    """Our commands know every option of a line that cannot be run here."""
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_0-9]+=", word)]
    if words[:1] != ["hidream-edit"]:
        return
    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    while hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context("hidream-edit", list(arguments))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_does_what_it_says(reader: Reader, page: Path) -> None:
    for block in blocks(page):
        assert block.language in (*RUN, *SHOWN), f"{page.name}: a block in {block.language or 'no language'}"
        if block.language in RUN:
            reader.read(block)


def test_there_are_pages_to_read() -> None:
    assert len(PAGES) >= 8
    assert sum(block.language in RUN for page in PAGES for block in blocks(page)) >= 15


@pytest.mark.parametrize("line", ["hidream-edit serve --no-such-option", "hidream-edit nonsense"])
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"no-such-option|nonsense"):
        check_command(line)
