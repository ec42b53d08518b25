"""Everything that can go wrong by name. The tree:

HidreamEditError
├── InputInvalid            the request asks for something that cannot be
│   └── PictureUnreadable   bytes that are not a picture we take
│       ├── PictureUnsupported   a known format that we do not take
│       └── PictureTooLarge      more pixels, frames or bytes than allowed
├── FetchFailed             an address gave no picture
├── ModelUnusable           the model folder cannot serve
│   ├── ModelNotFound       nothing there
│   ├── ModelFileMissing    a file that the model needs is not there
│   ├── ModelFileInvalid    a file that does not hold what the model needs
│   ├── ModelGated          a licence must be accepted first
│   └── MemoryTooSmall      the weights do not fit
├── DeviceUnavailable       the device that was asked for is not there
│   └── GroupLost           one of several devices that work together is gone
├── StateInvalid            a saved edit that does not belong to this model or version
├── DescriberFailed         the vision-language model gave no usable answer
├── JobNotFound             no job by that id, or not this caller's
├── JobFinished             the job is already in its final state
├── IllegalMove             a move that the table of states does not have
├── LeaseLost               the runner's lease ended; somebody else may hold the job
├── QueueFull               more jobs wait than the caller allows
├── BlobNotFound            no blob by that id
├── BlobsUnavailable        files cannot be read or written right now
├── StorageQuotaReached     the caller may not store more
├── CallerLimited           the caller's quota is used up for now
├── StoreUnavailable        the database does not answer or cannot write right now
└── StoreUnusable           the database cannot be used by this version
"""

from __future__ import annotations


class HidreamEditError(Exception):
    """Base of all errors that this package raises on purpose; its text says what to do."""


class InputInvalid(HidreamEditError):
    """A field of the request is out of its bounds.

    ``field`` is the name on the wire, ``kind`` the machine-readable error type, ``context`` its bounds.
    """

    def __init__(
        self, message: str, *, field: str, kind: str = "value_error", context: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.kind = kind
        self.context = context or {}


class PictureUnreadable(InputInvalid):
    """The bytes are not a picture that can be decoded."""

    def __init__(
        self, message: str, *, kind: str = "image_load_error", context: dict[str, object] | None = None
    ) -> None:
        super().__init__(message, field="image_url", kind=kind, context=context)


class PictureUnsupported(PictureUnreadable):
    """The bytes are a picture or document of a kind that is not taken."""

    def __init__(self, message: str, *, supported: tuple[str, ...]) -> None:
        super().__init__(message, kind="unsupported_image_format", context={"supported_formats": list(supported)})


class PictureTooLarge(PictureUnreadable):
    """More pixels, or more bytes, than the limits allow."""

    def __init__(self, message: str, *, kind: str = "image_too_large", context: dict[str, object]) -> None:
        super().__init__(message, kind=kind, context=context)


class FetchFailed(HidreamEditError):
    """An address did not answer with a picture."""


class ModelUnusable(HidreamEditError):
    """The model cannot be loaded."""


class ModelNotFound(ModelUnusable):
    """No model by that folder or id."""


class ModelFileMissing(ModelUnusable):
    """A file that the model needs is not there."""


class ModelFileInvalid(ModelUnusable):
    """A file does not hold the tensors or settings that the model needs."""


class ModelGated(ModelUnusable):
    """The publisher asks everyone to accept a licence before the download."""


class MemoryTooSmall(ModelUnusable):
    """The weights do not fit into the memory that is free."""


class DeviceUnavailable(HidreamEditError):
    """The device that was asked for is not there."""


class GroupLost(DeviceUnavailable):
    """One of the devices that work on an edit together failed or is gone, and the others with it."""


class StateInvalid(HidreamEditError):
    """A saved edit cannot be continued here."""


class DescriberFailed(HidreamEditError):
    """The describer was unreachable or answered in another form than three lines."""


class JobNotFound(HidreamEditError):
    """No job by that id, or one of another caller, which must look the same."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no request {job_id}")
        self.job_id = job_id


class JobFinished(HidreamEditError):
    """The job is already in its final state."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"request {job_id} is already completed")
        self.job_id = job_id


class IllegalMove(HidreamEditError):
    """A job was asked to do what its state does not allow."""

    def __init__(self, job_id: str, state: str, to: str) -> None:
        super().__init__(f"job {job_id} is {state} and cannot become {to}")
        self.job_id = job_id


class LeaseLost(HidreamEditError):
    """The lease that a runner names is no longer the job's."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lease on job {job_id} was lost")
        self.job_id = job_id


class QueueFull(HidreamEditError):
    """More jobs wait than the submit allows."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"{waiting} requests are waiting, {limit} are allowed")


class CallerLimited(HidreamEditError):
    """The caller's quota is used up for now; ``retry_after`` seconds may help.

    ``is_rate`` tells requests per minute from requests at a time.
    """

    def __init__(self, message: str, retry_after: float, *, is_rate: bool = True) -> None:
        super().__init__(message)
        self.retry_after, self.is_rate = retry_after, is_rate


class BlobNotFound(HidreamEditError):
    """No blob by that id, or one whose time is over."""

    def __init__(self, blob_id: str) -> None:
        super().__init__(f"there is no file {blob_id}")


class BlobsUnavailable(HidreamEditError):
    """Files cannot be read or written right now: the bucket does not answer, the disk is full."""


class StorageQuotaReached(HidreamEditError):
    """The caller may not store more; ``bytes_max`` is how much it may."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            f"this key may store {bytes_max:,} bytes, and this file would be more; files go when their time is over"
        )
        self.bytes_max = bytes_max


class StoreUnusable(HidreamEditError):
    """The database was made by a newer version, or cannot be opened."""


class StoreUnavailable(HidreamEditError):
    """The database is gone, locked for too long, or its disk is full. Nothing was written; trying again may help."""
