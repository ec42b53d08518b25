"""Pictures side by side."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.convert import image_of, picture_of

GROUND, INK = (250, 250, 249), (60, 60, 60)
HEIGHT_MAX = 1024


def side_by_side(pictures: list[Picture], captions: list[str]) -> Picture:
    """A row of pictures at one height on a light ground, each under its caption.

    Raises:
        ValueError: there are no pictures, or not as many captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures with {len(captions)} captions")
    height = min(HEIGHT_MAX, max(picture.height for picture in pictures))
    gap = max(6, height // 40)
    font = ImageFont.load_default(size=max(11, height // 24))
    header = max(18, height // 14)
    images = [_at_height(image_of(picture, with_alpha=False), height) for picture in pictures]
    width = sum(image.width for image in images) + gap * (len(images) + 1)
    sheet = Image.new("RGB", (width, header + height + gap), GROUND)
    canvas = ImageDraw.Draw(sheet)
    left = gap
    for image, caption in zip(images, captions, strict=True):
        canvas.text((left, header // 2), caption, fill=INK, font=font, anchor="lm")
        sheet.paste(image, (left, header))
        left += image.width + gap
    return picture_of(sheet)


def _at_height(image: Image.Image, height: int) -> Image.Image:
    width = max(1, round(image.width * height / image.height))
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
