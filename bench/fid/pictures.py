"""Makes two sets of pictures of mixed sizes and formats from a few photographs: crops, flips, colours, blur and noise.

usage: ENV/bin/python bench/fid/pictures.py DIR COUNT SIZE PHOTOGRAPH...
DIR gets the folders a and b with COUNT pictures each. SIZE 0 is mixed sizes (32 to 640 pixels) and formats (`KINDS`: all that
pytorch-fid and clean-fid look for, JPEG of qualities 70 to 95); otherwise all are JPEGs of SIZE x SIZE.
Those of b are blurred, noisy and darker than those of a, as those of a bad generator are. The seed is 0.
"""
import os
import sys

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter


def picture(rng, photographs, worse, size):
    source = photographs[rng.integers(len(photographs))]
    width, height = source.size
    side = int(rng.integers(min(width, height) // 4, min(width, height)))
    other = int(np.clip(side * rng.uniform(0.6, 1.6), 16, max(width, height)))
    w, h = min(side, width), min(other, height)
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    image = source.crop((left, top, left + w, top + h))
    if rng.random() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    image = image.rotate(float(rng.normal(0, 20)), Image.BICUBIC, expand=False)
    for enhance in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = enhance(image).enhance(float(rng.uniform(0.4, 1.7)))
    out = (size, size) if size else tuple(int(n) for n in rng.integers(32, 641, 2))
    image = image.resize(out, Image.BICUBIC)
    if worse:
        image = ImageEnhance.Brightness(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2.5))))).enhance(0.85)
    noise = rng.normal(0, 12 if worse else 3, (out[1], out[0], 3))
    pixels = np.clip(np.asarray(image, np.float64) + noise, 0, 255)
    # Low frequencies that no photograph has, so that there are more than a few kinds of picture.
    waves = rng.normal(0, 1, (3, 3, 3))
    y, x = np.mgrid[0:out[1], 0:out[0]] / max(out) * 2 * np.pi
    for a in range(3):
        for b in range(3):
            pixels += 14 * waves[a, b] * np.cos(a * x + b * y + a - b)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def cmyk(image):
    return image.convert("CMYK")


def transparent(image):
    """With an alpha that is no constant."""
    alpha = Image.linear_gradient("L").resize(image.size)
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


# Formats by extension and what Pillow is asked for; a function or a mode first. Each as often as its number says.
KINDS = [
    (6, "png", "RGB", {}), (2, "png", "L", {}), (2, "png", "P", {}), (2, "png", transparent, {}), (1, "png", "LA", {}), (1, "png", "1", {}),
    (3, "jpg", "RGB", {"subsampling": 0}), (3, "jpg", "RGB", {"subsampling": 1}), (6, "jpg", "RGB", {"subsampling": 2}),
    (2, "jpg", "RGB", {"progressive": True}), (2, "jpeg", "L", {}), (1, "jpg", cmyk, {}),
    (3, "webp", "RGB", {"quality": 80}), (2, "webp", "RGB", {"lossless": True}), (1, "webp", transparent, {}),
    (2, "bmp", "RGB", {}), (1, "bmp", "P", {}), (2, "tif", "RGB", {}), (1, "tiff", "RGB", {"compression": "tiff_lzw"}),
    (1, "tiff", "L", {"compression": "tiff_adobe_deflate"}), (1, "ppm", "RGB", {}), (1, "pgm", "L", {}),
]
MIXED = [kind[1:] for kind in KINDS for _ in range(kind[0])]


def main(folder, count, size, *paths):
    photographs = [Image.open(path).convert("RGB") for path in paths]
    for worse, name in enumerate("ab"):
        rng = np.random.default_rng(worse)
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        for index in range(int(count)):
            image = picture(rng, photographs, worse, int(size))
            extension, mode, options = MIXED[index % len(MIXED)] if not int(size) else ("jpg", "RGB", {"subsampling": 2})
            image = mode(image) if callable(mode) else image.convert(mode)
            if extension in ("jpg", "jpeg"):
                options = {**options, "quality": int(rng.integers(70, 96))}
            image.save(os.path.join(folder, name, f"{index:05}.{extension}"), **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
