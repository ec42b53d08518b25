"""The documentation holds together, read on a forge or as the site that ``make docs`` builds; mkdocs is not needed."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)|\b(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def markdown_files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).rstrip("\0").split("\0")
    return sorted(ROOT / name for name in names if (ROOT / name).is_file())


def prose(page: Path) -> str:
    """Without what is shown as it stands."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def targets(page: Path) -> list[str]:
    """Where links and pictures lead, inside the repository."""
    found = ["".join(groups) for groups in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))]
    return [target for target in found if not re.match(r"[a-z][a-z0-9+.-]*:|//", target)]


def anchors(page: Path) -> set[str]:
    """Names of headings that a forge and the site's builder spell alike; a link to any other works in one of them."""
    by_forge, by_builder = [], []
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).replace("`", "")
        by_forge.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        by_builder.append(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    once = {name for name in by_forge if by_forge.count(name) == by_builder.count(name) == 1}
    return once & set(by_builder)


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """Links of a page that lead nowhere, or out of the repository."""
    found = []
    for target in targets(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        is_there = place.exists() and place.is_relative_to(root.resolve())
        if not is_there or (anchor and anchor not in anchors(place)):
            found.append(target)
    return found


class Loader(yaml.SafeLoader):
    """Reads what the builder's own names stand in."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    read: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)  # noqa: S506 - a safe one
    return read


def pages_in(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for one in nav.values() if isinstance(nav, dict) else nav:
        yield from pages_in(one)


def test_every_page_is_in_the_navigation_once(config: dict[str, Any]) -> None:
    there = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(pages_in(config["nav"])) == there


def test_every_page_is_reached_from_the_first_one() -> None:
    reached, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md" or not page.is_relative_to(DOCS):
            continue
        reached.add(page)
        ahead += [(page.parent / target.partition("#")[0]).resolve() for target in targets(page) if target[0] != "#"]
    assert {page.relative_to(DOCS) for page in DOCS.rglob("*.md")} == {page.relative_to(DOCS) for page in reached}


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_has_one_title_and_pictures_have_words(page: Path) -> None:
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1
    assert re.match(r"# \S", page.read_text())
    assert "![](" not in prose(page)


def test_every_picture_is_shown_somewhere() -> None:
    shown = {(page.parent / target).resolve() for page in markdown_files() for target in targets(page)}
    assert {picture for picture in (DOCS / "images").rglob("*") if picture.is_file()} <= shown


@pytest.mark.parametrize(
    ("words", "is_broken"),
    [
        ("[a](other.md)", False),
        ("[a](gone.md)", True),
        ("![a](gone.png)", True),
        ("[a](other.md#a-heading-with-code)", False),
        ("[a](other.md#gone)", True),
        ("[a](#here)", False),
        ("[a](#gone)", True),
        ("[a](../outside.md)", True),
        ("[a](other.md#the-gap--between)", True),  # a forge's spelling only
        ("[a](https://example.org/gone)", False),
        ("`[a](gone.md)`", False),
        ("```text\n[a](gone.md)\n```", False),
        ('<img src="gone.png">', True),
        ("[a][b]\n\n[b]: gone.md", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, words: str, is_broken: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.md").write_text("# Outside\n")
    (root / "other.md").write_text("# Other\n\n## A heading, with `code`\n\n## The gap – between\n")
    page = root / "page.md"
    page.write_text(f"# Here\n\n{words}\n")
    assert bool(broken(page, root)) is is_broken


def test_the_site_asks_no_other_host(config: dict[str, Any]) -> None:
    assert config["theme"]["font"] is False
    assert config["plugins"] == ["search"]
    assert "//" not in re.sub(r"#.*", "", (ROOT / "mkdocs.yml").read_text())
    for name in ("extra_css", "hooks"):
        for file in config.get(name, []):
            assert (ROOT / file if name == "hooks" else DOCS / file).is_file(), file
    assert "extra_javascript" not in config
    for style in DOCS.rglob("*.css"):
        assert not re.search(r"@import|url\(|//", style.read_text())


def test_the_builder_is_pinned() -> None:
    lines = (DOCS / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in packages)
    assert {"mkdocs", "mkdocs-material"} <= {line.partition("==")[0] for line in packages}


def test_the_site_has_the_colours_of_the_web_page() -> None:
    page = (ROOT / "src/hidream_edit/playground/style.css").read_text()
    accents = re.search(r"--accent: light-dark\((#\w+), (#\w+)\)", page)
    assert accents is not None
    style = (DOCS / "assets/site.css").read_text()
    assert all(f"--md-typeset-a-color: {colour}" in style for colour in accents.groups())
