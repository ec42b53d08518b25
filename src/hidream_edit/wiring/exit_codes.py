"""What a command's exit status means."""

from __future__ import annotations

from enum import IntEnum

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
    UNHEALTHY = 7  # `doctor` found a problem
    STOPPED = 130  # stopped with Ctrl-C


BY_ERROR: dict[type[HidreamEditError], ExitCode] = {
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
}


def exit_code_of(error: HidreamEditError) -> ExitCode:
    """The code of the nearest ancestor in the table."""
    return next(BY_ERROR[ancestor] for ancestor in type(error).__mro__ if ancestor in BY_ERROR)
