"""Files that were made to do harm, or that are broken in the ways that files break. Built here; none is stored."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, PngImagePlugin


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, idat: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"".join(extra) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def zeros(size: int) -> bytes:
    """``size`` zero bytes, compressed about a thousand times."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*pieces, packer.compress(bytes(size & ((1 << 20) - 1))), packer.flush()])


def harmful() -> Iterator[tuple[str, bytes]]:
    """Names and files; each has to be refused, or give a picture, within the limits."""
    small = Image.new("RGB", (16, 16), (200, 30, 30))
    row = zlib.compress(bytes(1 + 3 * 16) * 16)
    yield "png of 50,000 x 50,000", png(50_000, 50_000, zeros(10_000_000))
    yield "png that says 2 billion wide", png(2**31 - 1, 1, row)
    yield "png that says zero wide", png(0, 5, row)
    yield "png of 9,999 x 9,999 that is all there", png(9_999, 9_999, zeros(9_999 * (1 + 9_999)), colour=0)
    yield "png whose data is far more than its size", png(4, 4, zeros(300_000_000))
    yield "png whose data is too little", png(4_000, 4_000, zlib.compress(b"\0"))
    yield (
        "png with a profile that unfolds to 300 MB",
        png(16, 16, row, png_chunk(b"iCCP", b"x\0\0" + zeros(300_000_000))),
    )
    yield "png with a text that unfolds to 300 MB", png(16, 16, row, png_chunk(b"zTXt", b"x\0\0" + zeros(300_000_000)))
    yield "png with 20,000 texts", png(16, 16, row, *[png_chunk(b"tEXt", b"k\0" + b"v" * 200)] * 20_000)
    yield (
        "png with a chunk that lies about its length",
        png(16, 16, row).replace(b"\0\0\0\rIHDR", b"\xff\xff\xff\xffIHDR"),
    )
    yield "png with wrong checksums", png(16, 16, row)[:-8] + b"\0" * 8
    yield "png that is cut in its header", png(16, 16, row)[:20]
    animated = io.BytesIO()
    small.save(
        animated, "PNG", save_all=True, append_images=[Image.new("RGB", (16, 16), (n, n, n)) for n in range(200)]
    )
    yield "png with 200 frames", animated.getvalue()
    gif = io.BytesIO()
    small.save(
        gif, "GIF", save_all=True, append_images=[Image.new("RGB", (16, 16), (n % 256, 9, 9)) for n in range(500)]
    )
    yield "gif with 500 frames", gif.getvalue()
    yield "gif that says 65,535 x 65,535", gif.getvalue()[:6] + b"\xff\xff\xff\xff" + gif.getvalue()[10:]
    yield "jpeg with 40 profiles of the largest size", _jpeg_with(small, b"\xff\xe2", b"ICC_PROFILE\0\x01\x28", 40)
    yield "jpeg with 100 large EXIF parts", _jpeg_with(small, b"\xff\xe1", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", 100)
    yield "jpeg that says 65,500 x 65,500", _jpeg_sized(small, 65_500, 65_500)
    yield "jpeg cut in the middle", file_of(Image.effect_noise((400, 400), 90), "JPEG")[:9_000]
    exif = Image.Exif()
    exif[0x0112] = 99
    exif[0x010F] = "m" * 60_000
    yield "jpeg with an orientation that does not exist", file_of(small, "JPEG", exif=exif)
    yield "tiff with a directory that points to itself", b"II*\0\x08\0\0\0\x00\x00\x08\0\0\0"
    yield "tiff with 65,535 entries", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60_000
    yield "tiff of 60,000 x 60,000", _tiff_sized(60_000, 60_000)
    yield "bmp that says 100,000 x 100,000", _bmp_sized(100_000, 100_000)
    yield "bmp with a negative size", _bmp_sized(-5, -5)
    yield "webp cut short", file_of(small, "WEBP")[:40]
    yield "webp that lies about its length", b"RIFF\xff\xff\xff\xffWEBPVP8L" + b"\xff" * 200
    yield "avif cut short", file_of(small, "AVIF")[:100]
    yield "svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield "svg with an entity bomb", b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>'
    yield "pdf", b"%PDF-1.7\n1 0 obj<<>>endobj"
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"
    yield "html", b"<!doctype html><script>alert(1)</script>"
    yield "zip", b"PK\x03\x04" + bytes(100)
    yield "executable", b"\x7fELF" + bytes(100)
    yield "pickle", b"\x80\x04\x95" + bytes(50)
    yield "nothing", b""
    yield "one byte", b"\x89"
    yield "zeros", bytes(100_000)
    yield "picture and archive in one", file_of(small, "PNG") + b"PK\x03\x04" + bytes(1000)
    yield "picture behind html", b"<html>" + file_of(small, "JPEG")
    yield "formats that are not taken: ppm", file_of(small, "PPM")
    yield "formats that are not taken: ico", file_of(small, "ICO")
    yield "formats that are not taken: tga", file_of(small, "TGA")
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>" + "<a>" * 50_000, zip=True)
    yield "png with deep xmp", file_of(small, "PNG", pnginfo=text)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        whole = file_of(small, kind)
        yield f"{kind} cut at its half", whole[: len(whole) // 2]
        yield (
            f"{kind} with its middle overwritten",
            whole[: len(whole) // 3] + b"\xff" * 60 + whole[len(whole) // 3 + 60 :],
        )


def _jpeg_with(image: Image.Image, marker: bytes, start: bytes, count: int) -> bytes:
    part = start + b"\xff" * (65_533 - len(start))
    whole = file_of(image, "JPEG")
    return whole[:2] + (marker + struct.pack(">H", len(part) + 2) + part) * count + whole[2:]


def _jpeg_sized(image: Image.Image, width: int, height: int) -> bytes:
    whole = bytearray(file_of(image, "JPEG"))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


def _tiff_sized(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


def _bmp_sized(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info + bytes(200)
