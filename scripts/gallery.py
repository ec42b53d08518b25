"""The README's picture: one photograph and what the model in the package makes of it, all real outputs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hidream_edit import EditPipeline

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = (
    "", "make it a pencil sketch", "a snowy winter day", "turn it into night", "convert it into a 3D animated style",
    "paint it in watercolour", "make it look vintage", "as a comic", "in ghibli style", "a mosaic of small tiles",
)  # fmt: skip
COLUMNS, WIDTH, CAPTION, GAP = 5, 300, 24, 6


def main() -> None:
    """Write docs/images/edits.jpg."""
    with Image.open(ROOT / "examples" / "photo.jpg") as opened:
        photo = opened.convert("RGB")
    pipeline = EditPipeline.from_pretrained(device="cpu")
    height = round(WIDTH * photo.height / photo.width)
    rows = -(-len(INSTRUCTIONS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) - GAP, rows * (height + CAPTION + GAP) - GAP), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for number, words in enumerate(INSTRUCTIONS):
        edited = pipeline(photo, words, seed=1).image if words else photo
        left, top = number % COLUMNS * (WIDTH + GAP), number // COLUMNS * (height + CAPTION + GAP)
        sheet.paste(edited.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, top))
        canvas.text((left + 2, top + height + 3), words or "the photograph", fill="black", font=font)
    target = ROOT / "docs" / "images" / "edits.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, quality=88)


if __name__ == "__main__":
    main()
