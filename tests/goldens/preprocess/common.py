"""What the generators of this folder share."""

import json
import random

import numpy as np


def pattern(width, height):
    """Noise that depends on nothing but position: worst case for rounding, equal in Rust."""
    n = np.arange(width * height * 3, dtype=np.uint64)
    n = (n * 2654435761) & 0xFFFFFFFF
    n ^= n >> 15
    n = (n * 2246822519) & 0xFFFFFFFF
    n ^= n >> 13
    return (n >> 24).astype(np.uint8).reshape(height, width, 3)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def summary(rgb):
    """Size, hash and the first, middle and last pixel of an RGB picture."""
    height, width = rgb.shape[:2]
    at = [(0, 0), (width // 2, height // 2), (width - 1, height - 1)]
    return {
        "width": width,
        "height": height,
        "fnv": fnv(np.ascontiguousarray(rgb).tobytes()),
        "pixels": [[x, y, rgb[y, x].tolist()] for x, y in at],
    }


def resize_cases():
    named = [
        (1, 1, 5, 7), (1, 1, 1, 1), (3, 1000, 320, 4000), (1000, 3, 50, 3), (3, 1000, 3, 17), (1, 50, 9, 300),
        (50, 1, 300, 9), (2, 2, 1, 1), (3, 3, 1, 1), (1, 2, 1, 1), (2, 1, 1, 1), (2, 4, 1, 2), (299, 299, 299, 299),
        (299, 299, 320, 320), (320, 320, 299, 299), (100, 80, 50, 40), (101, 80, 50, 40), (100, 81, 50, 40),
        (100, 80, 50, 41), (64, 64, 32, 64), (64, 64, 64, 32), (64, 64, 16, 16), (64, 64, 21, 21), (60, 40, 120, 80),
        (500, 375, 427, 320), (375, 500, 320, 427), (500, 375, 341, 256), (640, 640, 320, 320), (512, 512, 256, 256),
        (1, 640, 1, 320), (2, 640, 1, 320),
    ]
    rng = random.Random(0)
    cases = [tuple(rng.randint(1, 120) for _ in range(4)) for _ in range(300)]
    for _ in range(60):
        w, h, k = rng.randint(1, 40), rng.randint(1, 40), rng.randint(2, 4)
        cases += [(w * k, h * k, w, h), (w, h, w * k, h * k)]
    return named + cases


def write(path, goldens):
    """One line an entry: small diffs."""
    sections = []
    for name, value in goldens.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in value)
            sections.append(f'"{name}": [\n{lines}\n]')
        else:
            sections.append(f'"{name}": {json.dumps(value)}')
    path.write_text("{\n" + ",\n".join(sections) + "\n}\n")
