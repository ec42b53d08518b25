"""Opening what the settings name, and what is said where that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hidream_edit.domain.errors import InputInvalid, StoreUnusable
from hidream_edit.settings import ServerSettings
from hidream_edit.wiring.serve import _private, check_exposure, is_loopback
from hidream_edit.wiring.server_parts import open_objects, open_parts, read_secret

WORD = "of-the-test"


def test_a_file_in_the_place_of_the_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreUnusable, match="data"):
        open_parts(ServerSettings(data=str(tmp_path / "data")))


@pytest.mark.parametrize(
    ("module", "extra", "settings"),
    [
        ("hidream_edit.queue.postgres.store", "postgres", {"database": "postgresql://localhost/x"}),
        ("hidream_edit.blobs.s3", "s3", {"blobs": "s3://bucket"}),
    ],
)
def test_what_is_not_installed_is_named_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, extra: str, settings: dict[str, str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StoreUnusable, match=rf"pip install 'hidream-edit\[{extra}\]'"):
        open_parts(ServerSettings(data=str(tmp_path), **settings))


def test_files_lie_in_a_bucket_or_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="s3://bucket/prefix"):
        open_objects(ServerSettings(data=str(tmp_path), blobs="ftp://elsewhere"))


def test_a_secret_that_is_set_is_taken_and_another_is_made_once(tmp_path: Path) -> None:
    words = WORD * 3
    assert read_secret(ServerSettings(data=str(tmp_path), secret=words)) == words.encode()
    made = read_secret(ServerSettings(data=str(tmp_path)))
    assert made == read_secret(ServerSettings(data=str(tmp_path))) != words.encode()


def test_the_runner_hears_of_database_and_bucket_by_its_environment(tmp_path: Path) -> None:
    settings = ServerSettings(data=str(tmp_path), database=f"postgresql://u:{WORD}@h/x", blobs="s3://bucket")
    assert _private(settings) == {
        "HIDREAM_EDIT_SERVER_DATABASE": f"postgresql://u:{WORD}@h/x",
        "HIDREAM_EDIT_SERVER_BLOBS": "s3://bucket",
    }
    assert _private(ServerSettings(data=str(tmp_path))) == {}


@pytest.mark.parametrize(
    ("host", "is_own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("gpu", False)]
)
def test_without_keys_only_this_machine_is_served(tmp_path: Path, host: str, is_own: bool) -> None:
    settings = ServerSettings(data=str(tmp_path), host=host)
    assert is_loopback(host) is is_own
    check_exposure(settings, has_keys=True)
    if is_own:
        check_exposure(settings, has_keys=False)
    else:
        with pytest.raises(InputInvalid, match="no key exists"):
            check_exposure(settings, has_keys=False)
