"""The command ``hidream-edit edit --server``: sources → another machine → files. No engine is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hidream_edit.client import Client, ClientError
from hidream_edit.domain.errors import HidreamEditError, InputInvalid
from hidream_edit.pictures.decode import decode
from hidream_edit.pictures.encode import read_about
from hidream_edit.pictures.sources import expand, is_address, read
from hidream_edit.settings import DescriberSettings
from hidream_edit.wiring.edit import EditOrder, Reporter, Stopped, described, each_source, store_comparison
from hidream_edit.wiring.exit_codes import ExitCode, exit_code_of

SENT = (
    "target_image_description", "negative_prompt", "num_inference_steps", "seed", "guidance_scale",
    "image_guidance_scale", "num_images", "quality",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """Where to edit. ``key`` is taken from the environment when left out; ``engine_options`` were given as well, and
    cannot be obeyed there."""

    url: str
    key: str | None = field(default=None, repr=False)
    engine_options: tuple[str, ...] = ()


def run(
    order: EditOrder, choice: ServerChoice, describing: DescriberSettings, reporter: Reporter, *, progress: bool | None
) -> ExitCode:
    """Edit every source at the server; see `each_source`."""
    try:
        if choice.engine_options:
            options = ", ".join(choice.engine_options)
            raise InputInvalid(f"{options}: not together with --server, which has its own engine", field="server")
        sources = expand(order.sources)
        order.plan.check(sources=len(sources), images=order.edit_input.num_images or 1)
        client = Client(choice.url, choice.key)
    except (HidreamEditError, ClientError) as error:
        reporter.fail(str(error))
        return exit_code_of(error)
    with client:
        return each_source(
            sources, order, reporter, lambda source: _edit_one(source, order, client, describing, reporter, progress)
        )


def _edit_one(
    source: str,
    order: EditOrder,
    client: Client,
    describing: DescriberSettings,
    reporter: Reporter,
    progress: bool | None,
) -> dict[str, Any]:
    """Send one source and write what comes back; the report is a JSON object."""
    sent = source if is_address(source) else read(source)
    before, edit_input, notes = None, order.edit_input, list[str]()
    if order.compare is not None or (describing.url is not None and not edit_input.target_image_description):
        before = decode(read(source) if isinstance(sent, str) else sent)
        edit_input, notes = described(before, edit_input, describing)
    fields: dict[str, Any] = {name: getattr(edit_input, name) for name in SENT}
    fields |= {
        "output_format": order.plan.format,
        "safety_checker": order.safety_checker,
        "sync_mode": order.plan.as_data_uris or None,
    }
    try:
        edit = client.edit(sent, edit_input.edit_instruction or "", progress=progress, **fields)
    except KeyboardInterrupt as stopped:
        raise Stopped from stopped
    warnings = [*notes, *edit.warnings]
    for warning in warnings:
        reporter.warn(warning)
    written = [
        order.plan.place(data, image.size, source, index, len(edit.files))
        for index, (data, image) in enumerate(zip(edit.files, edit.images, strict=True))
    ]
    if order.compare is not None and before is not None:
        store_comparison(order.compare, before, [decode(data) for data in edit.files])
    if not order.as_json:
        for one in written:
            reporter.say(one.url)
    about = read_about(edit.files[0])
    return {
        "images": [asdict(one) for one in written],
        "timings": dict(edit.timings),
        "seed": edit.seed,
        "has_nsfw_concepts": list(edit.has_nsfw_concepts),
        "prompt": edit.prompt,
        "settings": about.get("settings", {}),
        "model": about.get("model"),
        "quality": None if edit.quality is None else dict(edit.quality),
        "request_id": edit.request_id,
        "warnings": warnings,
    }
