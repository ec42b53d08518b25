"""What a command's exit status means."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

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
    """A code, what it means, and what to do; docs/reference/exit-codes.md is written from this table."""

    meaning: str
    advice: str

    def __new__(cls, code: int, meaning: str, advice: str) -> Self:
        """The code itself is a number; its words come along."""
        made = int.__new__(cls, code)
        made._value_, made.meaning, made.advice = code, meaning, advice
        return made

    OK = 0, "everything that was asked for is done", ""
    FAILED = 1, "a fault of this program", "run it again with `--debug` and report what it prints"
    USAGE = 2, "the command, or a field of the edit, is wrong", "the message names the field and its bounds"
    SOURCE = (
        3,
        "a source cannot be read, fetched or decoded, here or by the server",
        "the message names the source and the formats that are taken",
    )
    MODEL = 4, "the model cannot be loaded", "the message names the missing file, or the licence page to accept"
    DEVICE = 5, "no such device, or not enough memory", "choose `--device` and `--dtype`, or a smaller model"
    OUTPUT = 6, "the result, or the data folder, cannot be written", "check the folder and the free space"
    SERVER = (
        7,
        "with `--server`: it cannot be reached, does not let this caller in, or could not do the edit",
        "the message says which; check the address, the key, or the server's log",
    )
    UNHEALTHY = 8, "`doctor` found a problem; warnings alone give 0", "its line says what to do"
    STOPPED = 130, "stopped with Ctrl-C, or cancelled at the server", "results that were finished before are kept"


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
