"""The bytes behind ``image_url``: our own blobs, data URIs, and addresses."""

from __future__ import annotations

from collections.abc import Callable

from hidream_edit.domain.blobs import BlobStore
from hidream_edit.domain.errors import BlobNotFound, FetchFailed, PictureTooLarge
from hidream_edit.outgoing.download import DownloadLimits, download
from hidream_edit.pictures.sources import from_data_uri

OWN = "blob:"


def may_be_read_twice(image_url: str) -> bool:
    """Whether whoever reads it leaves it as it was: our own blobs and data URIs. An address may be good for once."""
    return image_url.startswith(OWN) or image_url[:5].lower() == "data:"


class SourceReader:
    """Reads a source for a runner."""

    def __init__(self, blobs: BlobStore, limits: DownloadLimits, *, clock: Callable[[], float]) -> None:
        self._blobs, self._limits, self._clock = blobs, limits, clock

    def __call__(self, image_url: str) -> bytes:
        """Raises PictureUnreadable, PictureTooLarge, FetchFailed."""
        if image_url.startswith(OWN):
            return self._own(image_url.removeprefix(OWN))
        if image_url[:5].lower() == "data:":
            return from_data_uri(image_url)
        return download(image_url, limits=self._limits)

    def _own(self, blob_id: str) -> bytes:
        now = self._clock()
        try:
            if self._blobs.facts(blob_id, now=now).size > self._limits.bytes_max:
                raise PictureTooLarge(
                    f"the picture has more than the {self._limits.bytes_max:,} bytes allowed",
                    kind="file_too_large",
                    context={"max_size": self._limits.bytes_max},
                )
            return b"".join(self._blobs.read(blob_id, now=now))
        except BlobNotFound as gone:
            raise FetchFailed("the uploaded file is not there any more") from gone
