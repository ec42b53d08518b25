"""What a command's exit status means."""

from __future__ import annotations

from enum import IntEnum

from hidream_edit.client.errors import Cancelled, ClientError, InputRefused
from hidream_edit.domain.errors import (
    DescriberFailed,
    DeviceUnavailable,
    FetchFailed,
    HidreamEditError,
    InputInvalid,
    JobFinished,
    JobNotFound,
    MemoryTooSmall,
    ModelUnusable,
    PictureUnreadable,
    StoreUnusable,
)


class ExitCode(IntEnum):
    """Documented in docs/reference/exit-codes.md, which a test compares with this table."""

    OK = 0  # everything that was asked for is done
    FAILED = 1  # a fault of this program; --debug shows where
    USAGE = 2  # the command or a field of the edit is wrong
    SOURCE = 3  # a source cannot be read, fetched or decoded
    MODEL = 4  # the model cannot be loaded
    DEVICE = 5  # no such device, or not enough memory
    OUTPUT = 6  # the result, or the data folder, cannot be written
    SERVER = 7  # the server cannot be reached, does not let this caller in, or could not do it
    UNHEALTHY = 8  # `doctor` found a problem
    STOPPED = 130  # stopped with Ctrl-C, or cancelled at the server


BY_ERROR: dict[type[Exception], ExitCode] = {
    HidreamEditError: ExitCode.FAILED,
    InputInvalid: ExitCode.USAGE,
    PictureUnreadable: ExitCode.SOURCE,
    FetchFailed: ExitCode.SOURCE,
    ModelUnusable: ExitCode.MODEL,
    MemoryTooSmall: ExitCode.DEVICE,
    DeviceUnavailable: ExitCode.DEVICE,
    DescriberFailed: ExitCode.FAILED,
    JobNotFound: ExitCode.USAGE,
    JobFinished: ExitCode.USAGE,
    StoreUnusable: ExitCode.OUTPUT,
    ClientError: ExitCode.SERVER,
    InputRefused: ExitCode.USAGE,
    Cancelled: ExitCode.STOPPED,
}


def exit_code_of(error: HidreamEditError | ClientError) -> ExitCode:
    """The code of the nearest ancestor in the table; a picture that a server refuses is a source, as it is here."""
    if isinstance(error, InputRefused) and error.field == "image_url":
        return ExitCode.SOURCE
    return next(BY_ERROR[ancestor] for ancestor in type(error).__mro__ if ancestor in BY_ERROR)
