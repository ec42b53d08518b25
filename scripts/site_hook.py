"""What the site needs beyond mkdocs: links that leave docs/, the project's mark, and no word to any other host."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

MARK = Path(__file__).parents[1] / "src" / "hidream_edit" / "playground" / "icon.svg"
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
# What a page loads by itself; a link that somebody may follow is another matter.
LOADED = re.compile(
    r"""<(?:script|link|img|iframe|source|use)\b[^>]*?\b(?:src|href|srcset)=["']?(?:https?:)?//[^>]*>"""
)
LOADED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\s]*")
ELSEWHERE = re.compile(r"https?://(?:unpkg\.com|cdn\.jsdelivr\.net|fonts\.g\w+\.com)[^\"'`\s]*")
NOWHERE = "about:blank"


def on_files(files: Any, config: Any) -> Any:
    """The web page's own icon, from where it lies."""
    files.append(File.generated(config, "assets/icon.svg", abs_src_path=str(MARK)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """A link to a file of the repository that is no part of the site becomes the file's name."""
    folder = dirname(page.file.src_uri)

    def named(link: re.Match[str]) -> str:
        path = normpath(join("docs", folder, link["target"]))
        if path.startswith("docs/"):
            return link[0]
        return f"`{path}`" if link["text"].strip("`") == path else f"{link['text']} (`{path}`)"

    return LINK.sub(named, markdown)


def on_post_build(config: Any) -> None:
    """Take out what the theme would fetch from elsewhere for features that are not used here, and look once more."""
    site = Path(config["site_dir"])
    for file in site.rglob("*.map"):
        file.unlink()
    for file in site.rglob("*.js"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\n//# sourceMappingURL=\S+", "", ELSEWHERE.sub(NOWHERE, text)), encoding="utf-8")
    for file in site.rglob("*.css"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\n/\*# sourceMappingURL=\S+ \*/", "", text), encoding="utf-8")
    found = [
        f"{file.relative_to(site)}: {found[0][:120]}"
        for suffix, pattern in (("html", LOADED), ("css", LOADED_BY_STYLE), ("js", ELSEWHERE))
        for file in sorted(site.rglob(f"*.{suffix}"))
        for found in pattern.finditer(file.read_text(encoding="utf-8"))
    ]
    if found:
        raise PluginError("the site would ask other hosts:\n" + "\n".join(found))
