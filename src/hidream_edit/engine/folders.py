"""Where a model lies: a folder, or an id on the hub whose files are fetched first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidream_edit.domain.errors import ModelFileInvalid, ModelFileMissing, ModelGated, ModelNotFound

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
WEIGHT_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]
# Llama's repository also carries the same weights in its original, pickled form.
IGNORED_PATTERNS = ["original/*", "*.pth", "*.bin", "*.pt"]


def find_folder(where: str | Path, *, parts: tuple[str, ...] = ()) -> Path:
    """The folder of a model; ``parts`` limits a download to these subfolders and the files beside them.

    Raises:
        ModelNotFound: no folder, no such id, or the hub cannot be reached and nothing is cached.
        ModelGated: its licence has to be accepted first.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder
    name = str(where)
    looks_like_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not looks_like_id:
        raise ModelNotFound(
            f"{where} is not a folder; give a model folder or a hub id such as HiDream-ai/HiDream-E1-Full"
        )
    return _from_hub(name, parts)


def _from_hub(name: str, parts: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns = [f"{part}/{pattern}" for part in parts for pattern in WEIGHT_PATTERNS] if parts else WEIGHT_PATTERNS
    if parts:
        patterns += ["*.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=IGNORED_PATTERNS))
    except GatedRepoError as gated:
        raise ModelGated(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, then `hf auth login`, "
            "or give a folder that holds it"
        ) from gated
    except RepositoryNotFoundError as missing:
        raise ModelNotFound(f"there is no model {name} on the hub, and no such folder") from missing
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as problem:
        raise ModelNotFound(
            f"{name} is not a folder, and the hub did not answer; download the model and give its folder"
        ) from problem


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelFileMissing: no such file.
        ModelFileInvalid: something else than a JSON object.
    """
    if not file.is_file():
        raise ModelFileMissing(f"{file} is missing")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ModelFileInvalid(f"{file} is not JSON: {problem}") from problem
    if not isinstance(value, dict):
        raise ModelFileInvalid(f"{file} is not a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model in the layout of the public repositories: a subfolder for each component."""

    path: Path

    def component(self, name: str) -> Path:
        """The subfolder ``name``.

        Raises:
            ModelFileMissing: it is not there.
        """
        folder = self.path / name
        if not folder.is_dir():
            raise ModelFileMissing(f"{folder} is missing: {self.path} is not a whole HiDream model folder")
        return folder

    def has(self, name: str) -> bool:
        return (self.path / name).is_dir()


def llama_folders(model: ModelFolder, text_encoder_4: str | Path | None) -> tuple[Path, Path]:
    """Folders of the fourth encoder and of its tokenizer.

    The public E1 repository does not hold them: they come from Llama's own, whose root has both.
    """
    if text_encoder_4 is None and model.has("text_encoder_4"):
        return model.component("text_encoder_4"), model.component("tokenizer_4")
    folder = find_folder(text_encoder_4 or LLAMA)
    if (folder / "text_encoder_4").is_dir():
        return folder / "text_encoder_4", folder / "tokenizer_4"
    return folder, folder
