"""HiDream-E1-Full image editing on your own machine.

    from hidream_edit import EditPipeline

    pipeline = EditPipeline.from_pretrained()
    pipeline(image, "make it a pencil sketch").image.save("sketch.png")

    from hidream_edit import Client

    Client("http://127.0.0.1:8000").edit("photo.jpg", "make it a pencil sketch").save("sketch.jpg")

Importing this package loads nothing heavy; torch comes with the first use of `EditPipeline`, and never with `Client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hidream_edit.version import __version__

if TYPE_CHECKING:
    from hidream_edit.client import AsyncClient, Client
    from hidream_edit.engine.edit_pipeline import EditPipeline, EditResult

__all__ = ["AsyncClient", "Client", "EditPipeline", "EditResult", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("EditPipeline", "EditResult"):
        from hidream_edit.engine import edit_pipeline

        return getattr(edit_pipeline, name)
    if name in ("AsyncClient", "Client"):
        from hidream_edit import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
