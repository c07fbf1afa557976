"""Thumbnails of many photographs, with Pillow: bytes in, bytes out.

The photographs are made here (noise under a gradient), and the thumbnails put together into one contact sheet;
`--save FILE` keeps it.
"""

from __future__ import annotations

import io

from beside_serial import compare, get_ready, options, timed
from muster import remote_parallel_map
from PIL import Image, ImageFilter, ImageOps

SIDE = 160


def photograph(number: int, width: int) -> bytes:
    """A JPEG that looks like nothing in particular."""
    size = (width, width * 3 // 4)
    noise = Image.effect_noise(size, 40 + number % 50)
    gradient = Image.linear_gradient("L").rotate(90 * number).resize(size)
    return jpeg(Image.merge("RGB", (gradient, noise, ImageOps.invert(gradient))))


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def thumbnail(photo: bytes) -> bytes:
    """Runs in a container: decoded, cut to a square, made small and sharpened."""
    image = Image.open(io.BytesIO(photo))
    square = ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.LANCZOS)
    return jpeg(square.filter(ImageFilter.UnsharpMask(radius=1)))


def contact_sheet(thumbnails: list[bytes], columns: int = 8) -> Image.Image:
    rows = -(-len(thumbnails) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for number, one in enumerate(thumbnails):
        row, column = divmod(number, columns)
        sheet.paste(Image.open(io.BytesIO(one)), (column * SIDE, row * SIDE))
    return sheet


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--save", metavar="FILE", help="keep the contact sheet")
    given = parser.parse_args()
    count, width = (6, 400) if given.small else (48, 2_000)
    photos = [photograph(number, width) for number in range(count)]

    get_ready(thumbnail, photos[0], func_ram=1)
    thumbnails, seconds = timed(lambda: remote_parallel_map(thumbnail, photos, func_ram=1))
    alone, serial_seconds = timed(lambda: [thumbnail(photo) for photo in photos])

    before, after = sum(map(len, photos)) / 1e6, sum(map(len, thumbnails)) / 1e6
    sheet = contact_sheet(thumbnails)
    print(f"{count} photographs of {before:.1f} MB, thumbnails of {after:.2f} MB")
    print(f"contact sheet of {sheet.width} x {sheet.height}")
    if given.save:
        sheet.save(given.save)
    assert thumbnails == alone
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
