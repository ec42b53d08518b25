"""The page about the client, run from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from tests.api.conftest import Server

from hidream_edit import client
from hidream_edit.client.requests import Fields

PAGE = Path(__file__).parents[2] / "docs/reference/python-client.md"


def test_every_block_of_the_page_works(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIDREAM_EDIT_URL", server.url)
    Image.new("RGB", (8, 6), "orange").save("photo.jpg")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    names["client"].close()  # type: ignore[attr-defined]
    assert {"night.jpg", "night-1.jpg", "night-2.jpg"} <= {file.name for file in tmp_path.iterdir()}
    assert "guidance_scale guidance_scale" in capsys.readouterr().out


def test_every_field_and_every_error_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [name for name in Fields.__annotations__ if f"`{name}`" not in text and name != "edit_instruction"] == []
    errors = [name for name in client.__all__ if issubclass(getattr(client, name), client.ClientError)]
    assert [name for name in errors if f"| `{name}` |" not in text] == []
