"""From an edit to words that people use for it."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from training.edits import COLOURS, PLACES, SHAPES, WITH_STRENGTH, Edit
from training.more_phrases import MORE
from training.phrases import NOTHING, PHRASES, QUALITIES, THINGS, UNKNOWN

PICTURE = (
    "it", "it", "it", "the image", "the photo", "the picture", "this", "this image", "this photo", "this picture", "my photo",
    "the whole image", "everything", "the photograph", "the scene",
)  # fmt: skip
TEMPLATES: dict[str, tuple[str, ...]] = {
    "is": (
        "make {it} {x}", "make {it} look {x}", "turn {it} {x}", "{it} should be {x}", "i want {it} to be {x}", "can you make {it} {x}?",
        "{x}", "make {it} appear {x}", "i'd like {it} {x}", "let {it} be {x}", "please render {it} {x}", "could {it} be {x}?",
        "i wish {it} were {x}", "have {it} {x}", "get {it} {x}",
    ),
    "into": (
        "turn {it} into {x}", "convert {it} into {x}", "convert {it} to {x}", "make {it} look like {x}", "transform {it} into {x}",
        "change {it} into {x}", "make {it} {x}", "{x}", "{it} as {x}", "i want {x}", "redo {it} as {x}", "can you turn {it} into {x}?",
        "make {x} out of {it}", "show {it} as {x}", "give me {x}", "render {it} as {x}",
    ),
    "style": (
        "{x} style", "in {x} style", "make {it} {x} style", "convert {it} into a {x} style", "apply a {x} style", "turn {it} into {x} style",
        "restyle {it} as {x}", "use a {x} style", "in the style of {x}", "give {it} a {x} look", "change the style to {x}",
        "change {it} to {x} style", "redraw {it} in {x} style", "i want {it} in {x} style", "{x} look", "{x} effect", "transfer {it} to {x} style",
    ),
    "add": (
        "add {x}", "apply {x}", "give {it} {x}", "put {x} on {it}", "use {x}", "add {x} to {it}", "i want {x}", "can you add {x}?",
        "{x}", "with {x}", "overlay {x}", "it needs {x}", "{it} with {x}", "apply {x} to {it}", "let {it} have {x}",
    ),
    "do": ("{x} {it}", "{x} {it}{t}", "can you {x} {it}?", "please {x} {it}{t}", "{x} {it} for me", "i want you to {x} {it}", "{x}{t}", "try to {x} {it}{t}"),
    "say": ("{x}",) ,
    "held": ("{x}",),
}  # fmt: skip
KIND_WEIGHTS = {"is": 3.0, "into": 2.5, "style": 2.5, "add": 2.5, "do": 2.0, "say": 3.0}
SLIGHT_BEFORE, SLIGHT_AFTER = ("slightly ", "a bit ", "a little ", "a touch ", "somewhat "), (" slightly", " a bit", " a little", " just a touch", " a little bit", " gently")  # fmt: skip
MUCH_BEFORE, MUCH_AFTER = ("much ", "a lot ", "way ", "far ", "very ", "really ", "extremely "), (" a lot", " strongly", " very much", " heavily", " significantly", " drastically", " by a lot")  # fmt: skip
BEFORE = ("",) * 12 + (
    "please ",
    "can you ",
    "could you ",
    "now ",
    "i want you to ",
    "hey, ",
    "just ",
    "would you ",
    "kindly ",
)
AFTER = ("",) * 12 + (" please", ".", "!", " for me", " now", ", thanks", "?", " ok")
DESCRIPTION_SUBJECTS = (
    "a person", "a woman", "a man in a suit", "a cat", "the scene", "a cup of coffee on a table", "a street", "a landscape",
    "a portrait of a woman with short hair", "a photo of a motorcycle", "a picture of a house", "an astronaut", "a bowl of fruit",
)  # fmt: skip
TYPO_SHARE = 0.07


def instruction(edits: tuple[Edit, ...], rng: Generator, *, held_out: bool = False) -> str:
    """What a person writes who wants ``edits``; nothing at all gives a no-op or something outside the vocabulary."""
    if not edits:
        words = outside(rng)
    else:
        parts = [_one(edit, rng, held_out=held_out) for edit in edits]
        words = parts[0]
        if len(parts) == 2:
            if rng.random() < 0.4:
                parts.reverse()
            link = rng.choice([" and ", " and then ", ", then ", " and also ", ", and ", " plus ", ". then "])
            words = f"{parts[0].rstrip('.!?')}{link}{parts[1]}"
            if rng.random() < 0.1:
                words = f"first {words}"
    if not held_out:
        words = _pick(rng, BEFORE) + words + _pick(rng, AFTER)
        if rng.random() < 0.25:
            words = _shortened(words, rng)
    return _as_typed(words.strip(), rng, typos=not held_out)


def prompt(edits: tuple[Edit, ...], rng: Generator, *, held_out: bool = False) -> str:
    """An instruction as the encoders meet it: mostly composed into the two-part form that the engine sends."""
    words = instruction(edits, rng, held_out=held_out)
    chance = rng.random()
    if chance < 0.15:
        return words
    description = _description(edits, words, rng) if chance > 0.78 else ""
    return f"Editing Instruction: {words.strip().strip('.')}. Target Image Description: {description}"


FLAWS = (
    "low resolution", "blur", "blurry", "low quality", "worst quality", "bad quality", "deformed", "distorted", "ugly", "watermark",
    "text", "jpeg artifacts", "noise", "noisy", "grainy", "out of focus", "bad anatomy", "extra fingers", "artifacts", "cropped",
    "signature", "duplicate", "oversaturated", "underexposed", "overexposed", "lowres", "disfigured", "poorly drawn", "pixelated",
)  # fmt: skip


def negative(rng: Generator) -> str:
    """A negative prompt as people write it: nothing, the default, or a list of flaws."""
    chance = rng.random()
    if chance < 0.25:
        return ""
    if chance < 0.5:
        return "low resolution, blur"
    return ", ".join(str(flaw) for flaw in rng.choice(FLAWS, int(rng.integers(2, 7)), replace=False))


def outside(rng: Generator) -> str:
    """An instruction that no family covers."""
    chance = rng.random()
    if chance < 0.08:
        return ""
    if chance < 0.2:
        return _pick(rng, NOTHING)
    words = _pick(rng, UNKNOWN)
    if chance > 0.94:
        letters = list("abcdefghijklmnopqrstuvwxyz ")
        return "".join(rng.choice(letters, int(rng.integers(3, 25)))).strip()
    first, second = (str(word) for word in rng.choice(THINGS, 2, replace=False))
    return words.format(a=first, b=second, q=_pick(rng, QUALITIES), c=_pick(rng, COLOURS))


def _one(edit: Edit, rng: Generator, *, held_out: bool) -> str:
    """Words for one edit; tries again until the strength that was asked for could be said."""
    phrases = PHRASES[edit.family]
    needs_strength = edit.strength != "normal"
    while True:
        if held_out:
            kind = "held"
        else:
            kinds = [kind for kind in phrases if kind != "held"]
            counts = [len(phrases[kind]) + (len(MORE[edit.family]) if kind == "say" else 0) for kind in kinds]
            weights = np.array([KIND_WEIGHTS[kind] * count**0.5 for kind, count in zip(kinds, counts, strict=True)])
            kind = str(rng.choice(kinds, p=weights / weights.sum()))
        known = phrases[kind] + (MORE[edit.family] if kind == "say" else [])
        phrase = _pick(rng, known)
        template = _pick(rng, TEMPLATES[kind])
        if kind == "do" and edit.family in WITH_STRENGTH and "{t}" not in template and needs_strength:
            continue
        words = template.replace("{x}", phrase)
        if needs_strength and "{s}" not in words and "{t}" not in words:
            continue
        return _filled(words, edit, rng)


def _filled(words: str, edit: Edit, rng: Generator) -> str:
    before, after = "", ""
    if edit.family in WITH_STRENGTH and edit.strength != "normal":
        is_slight = edit.strength == "slight"
        if "{s}" in words and ("{t}" not in words or rng.random() < 0.5):
            before = _pick(rng, SLIGHT_BEFORE if is_slight else MUCH_BEFORE)
        else:
            after = _pick(rng, SLIGHT_AFTER if is_slight else MUCH_AFTER)
    named = " ".join(part for part in (edit.object_colour, edit.object_shape or "one") if part)
    place = edit.place or _pick(rng, PLACES)
    where = (
        f"in the {place}"
        if place == "center"
        else f"{_pick(rng, ('in', 'at'))} the {place}{_pick(rng, ('', '', ' corner'))}"
    )
    colour = edit.colour or ""
    if colour == "gray" and rng.random() < 0.4:
        colour = "grey"
    return (
        words.replace("{s}", before)
        .replace("{t}", after)
        .replace("{it}", _pick(rng, PICTURE))
        .replace("{c}", colour)
        .replace("{o}", named)
        .replace("{n}", edit.added_shape or _pick(rng, SHAPES))
        .replace("{w}", where)
    )


FILLERS = frozenset(["the", "a", "an", "it", "this", "that", "of", "to", "in", "on", "with", "for", "and", "make", "i", "want", "please", "image", "photo", "picture", "like", "as", "give", "me", "my", "is", "be", "look", "turn", "into"])  # fmt: skip


def _shortened(words: str, rng: Generator) -> str:
    """In telegram style: some of the words that carry little are left out."""
    kept = [word for word in words.split() if word.lower() not in FILLERS or rng.random() < 0.5]
    return " ".join(kept) or words


def _description(edits: tuple[Edit, ...], words: str, rng: Generator) -> str:
    """What the picture shows afterwards, in the manner of a captioner."""
    subject = _pick(rng, DESCRIPTION_SUBJECTS)
    if not edits:
        return f"{subject.capitalize()}." if rng.random() < 0.7 else words
    if rng.random() < 0.3:
        return words
    family = (
        edits[-1].family.replace("_", " ").replace("animated 3d", "3d animated").replace("watercolour", "watercolor")
    )
    ending = _pick(rng, (f" in {family} style", f", {family}", f" with a {family} look", ""))
    return f"{subject}{ending}.".capitalize()


def _as_typed(words: str, rng: Generator, *, typos: bool) -> str:
    """Case, and now and then a slip of the finger."""
    if typos and len(words) > 8 and rng.random() < TYPO_SHARE:
        spot = int(rng.integers(1, len(words) - 2))
        kind = rng.integers(3)
        if kind == 0:
            words = words[:spot] + words[spot + 1] + words[spot] + words[spot + 2 :]
        elif kind == 1:
            words = words[:spot] + words[spot + 1 :]
        else:
            words = words[:spot] + words[spot] + words[spot:]
    chance = rng.random()
    if chance < 0.3:
        return words[:1].upper() + words[1:]
    if chance < 0.33:
        return words.upper()
    return words


def _pick(rng: Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]
