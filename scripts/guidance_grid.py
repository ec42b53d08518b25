"""The picture in docs/concepts/guidance.md: one edit under every pair of both guidance scales, by the mini model.

python scripts/guidance_grid.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hidream_edit import EditPipeline

ROOT = Path(__file__).parents[1]
WORDS, SEED = "make it look like autumn", 3
GUIDANCE, IMAGE_GUIDANCE = (1.0, 2.0, 3.5, 6.0), (1.0, 1.5, 2.0, 4.0)
SIDE, MARGIN = 190, 64


def main() -> None:
    """Make the grid; a minute or two on a CPU."""
    pipeline = EditPipeline.from_pretrained()
    photo = Image.open(ROOT / "examples" / "photo.jpg").convert("RGB")
    photo = photo.crop((100, 0, 500, 400)).resize((SIDE * 2, SIDE * 2))
    sheet = Image.new("RGB", (MARGIN + len(GUIDANCE) * SIDE, MARGIN + len(IMAGE_GUIDANCE) * SIDE), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    canvas.text((MARGIN, 6), "guidance_scale", fill="black", font=font)
    canvas.text((6, MARGIN - 38), "image_guidance_scale", fill="black", font=font)
    for row, image_scale in enumerate(IMAGE_GUIDANCE):
        canvas.text((14, MARGIN + row * SIDE + SIDE // 2), f"{image_scale:g}", fill="black", font=font)
        for column, scale in enumerate(GUIDANCE):
            canvas.text((MARGIN + column * SIDE + SIDE // 2 - 8, MARGIN - 20), f"{scale:g}", fill="black", font=font)
            edited = pipeline(
                photo,
                WORDS,
                seed=SEED,
                guidance_scale=scale,
                image_guidance_scale=image_scale,
            ).image
            small = edited.resize((SIDE - 6, SIDE - 6), Image.Resampling.LANCZOS)
            sheet.paste(small, (MARGIN + column * SIDE, MARGIN + row * SIDE))
    sheet.save(ROOT / "docs" / "images" / "guidance.jpg", quality=88)


if __name__ == "__main__":
    main()
