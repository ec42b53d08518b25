"""From the fields of a request to the strings that the encoders read (model.md 3.1, 11)."""

from __future__ import annotations

from typing import NamedTuple

from hidream_edit.domain.edit import EditSettings

INSTRUCTION_MARKER = "Editing Instruction:"
DESCRIPTION_MARKER = "Target Image Description:"


class Prompts(NamedTuple):
    """The texts of one edit."""

    prompt: str
    negative: str
    target: str


def compose_prompt(instruction: str, description: str) -> str:
    """The two-part prompt that the model was trained on.

    The instruction loses surrounding white space, then leading and trailing periods, so that exactly one follows it.
    A blank description keeps the marker with nothing behind it. An instruction that already carries the marker is a
    composed prompt and stays as it is.
    """
    if DESCRIPTION_MARKER in instruction and not description.strip():
        return instruction
    return f"{INSTRUCTION_MARKER} {instruction.strip().strip('.')}. {DESCRIPTION_MARKER} {description}"


def target_prompt(prompt: str, instruction: str) -> str:
    """What the refine tail reads: the text between the first and a second marker, trimmed.

    Without a marker it is the whole prompt, as upstream; where upstream would go on with an empty text, because the
    description is blank, it is the instruction.
    """
    parts = prompt.split(DESCRIPTION_MARKER)
    if len(parts) == 1:
        return prompt
    return parts[1].strip() or instruction.strip()


def prompts_of(settings: EditSettings) -> Prompts:
    """All texts of one edit."""
    prompt = compose_prompt(settings.edit_instruction, settings.target_image_description)
    return Prompts(prompt, settings.negative_prompt, target_prompt(prompt, settings.edit_instruction))
