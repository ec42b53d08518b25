"""Pictures ↔ PIL images."""

from __future__ import annotations

from PIL import Image, ImageOps

from hidream_edit.domain.picture import Picture

WHITE = (255, 255, 255)


def image_of(picture: Picture, *, with_alpha: bool = True) -> Image.Image:
    """A PIL image: RGBA where the picture has alpha, else RGB."""
    image = Image.frombytes("RGB", picture.size, picture.rgb)
    if with_alpha and picture.alpha is not None:
        image.putalpha(Image.frombytes("L", picture.size, picture.alpha))
    return image


def picture_of(image: Image.Image) -> Picture:
    """A PIL image in sRGB, turned upright; transparency is kept, and shown on white in ``rgb``."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        whole = image.convert("RGBA")
        alpha = whole.getchannel("A")
        ground = Image.new("RGB", whole.size, WHITE)
        ground.paste(whole, mask=alpha)
        return Picture(*whole.size, ground.tobytes(), alpha.tobytes())
    rgb = image.convert("RGB")
    return Picture(*rgb.size, rgb.tobytes())
