"""The command ``hidream-edit describe``, and the describer that ``edit`` uses."""

from __future__ import annotations

from hidream_edit.describer.describer import Describer, Description
from hidream_edit.domain.errors import InputInvalid
from hidream_edit.pictures.decode import decode
from hidream_edit.pictures.sources import read
from hidream_edit.settings import DescriberSettings


def make_describer(settings: DescriberSettings) -> Describer:
    """The describer that the settings name.

    Raises:
        InputInvalid: they name none.
    """
    if settings.url is None:
        raise InputInvalid(
            "no describer is configured: give --describer-url or set HIDREAM_EDIT_DESCRIBER_URL", field="describer_url"
        )
    key = settings.key.get_secret_value() if settings.key else None
    return Describer(settings.url, model=settings.model, key=key, timeout_seconds=settings.timeout_seconds)


def describe(source: str, instruction: str, settings: DescriberSettings) -> Description:
    """Ask the describer about one source.

    Raises:
        InputInvalid: no describer is configured, or the source is not a picture.
        DescriberFailed: no usable answer.
    """
    describer = make_describer(settings)
    try:
        return describer.describe(decode(read(source)), instruction)
    finally:
        describer.close()
