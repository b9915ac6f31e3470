"""Writes the goldens of `inception-data`: what PaddleClas 2.6.0 on opencv-python 4.6.0 makes of pictures.

Run from anywhere, in the environment that has PaddleClas and cv2:

    /work/peers/paddle/bin/python tests/goldens/preprocess/generate.py

It rewrites `goldens.json`, `inputs/` and `expected/` beside itself; the tests in `crates/inception-data/tests` read
them. Resizing and normalising are tested on pictures that Python and Rust both compute from a formula (`pattern`), so
that hundreds of sizes cost a line each. A golden is the FNV-1a 64 hash of all the bytes plus a few values, for the
message of a failing test. Pictures that a JPEG was decoded to are kept whole, as PNG in `expected/`, because there the
distance is measured.
"""

import io
import random
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL
from PIL import Image
from paddleclas.deploy.python.preprocess import CropImage, DecodeImage, NormalizeImage, ResizeImage, ToCHWImage
import paddleclas

from common import fnv, pattern, resize_cases, summary, write

HERE = Path(__file__).resolve().parent
INPUTS = HERE / "inputs"
EXPECTED = HERE / "expected"
PHOTOS = HERE.parents[1] / "images"
PHOTO = "ILSVRC2012_val_00010010.jpeg"


def decode(data):
    """RGB as PaddleClas decodes it."""
    return np.ascontiguousarray(DecodeImage(to_rgb=True)(data))


# --- resizing ---------------------------------------------------------------------------------------------------------


def resize_goldens():
    out = []
    for w, h, w2, h2 in resize_cases():
        resized = cv2.resize(pattern(w, h), (w2, h2), interpolation=cv2.INTER_LINEAR)
        out.append({"from": [w, h], **summary(resized)})
    return out


# --- the whole of the preprocessing -----------------------------------------------------------------------------------


def preprocess(rgb, resize_short, crop):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    resized = ResizeImage(resize_short=resize_short)(rgb)
    cropped = CropImage(size=crop)(resized)
    # "1.0/255.0" and "" are what ppcls/configs/ImageNet/Inception/*.yaml say.
    normal = NormalizeImage(scale="1.0/255.0", mean=mean, std=std, order="")(cropped)
    chw = np.ascontiguousarray(ToCHWImage()(normal))
    assert chw.dtype == np.float32 and chw.shape == (3, crop, crop)
    at = [(0, 0, 0), (1, crop // 2, crop // 2), (2, crop - 1, crop - 1)]
    return {
        "resize_short": resize_short,
        "crop": crop,
        "resized": [resized.shape[1], resized.shape[0]],
        "fnv": fnv(chw.astype("<f4").tobytes()),
        "values": [[*i, float(chw[i])] for i in at],
    }


def preprocess_goldens(photo_png):
    out = []
    sizes = [
        (1, 1), (3, 1000), (1000, 3), (299, 299), (320, 320), (640, 640), (640, 480), (333, 500), (501, 377), (37, 29),
        (128, 129), (128, 131), (256, 333), (512, 515), (512, 513),
    ]
    for w, h in sizes:
        for short, crop in [(320, 299), (256, 224)]:
            if (w, h) in [(3, 1000), (1000, 3)] and short == 256:
                continue
            out.append({"pattern": [w, h], **preprocess(pattern(w, h), short, crop)})
    # Odd margins, no margin, a margin of one, a tiny crop.
    for short, crop in [(64, 63), (64, 64), (64, 61), (65, 64), (64, 1), (7, 5)]:
        out.append({"pattern": [90, 70], **preprocess(pattern(90, 70), short, crop)})
    for short, crop in [(320, 299), (256, 224)]:
        out.append({"file": photo_png.name, **preprocess(decode(photo_png.read_bytes()), short, crop)})
    return out


def resized_size_goldens():
    """PaddleClas's size arithmetic alone, on many sizes; the resizing is replaced, or this would take hours."""
    out = []
    rng = random.Random(1)
    sizes = [(rng.randint(1, 6000), rng.randint(1, 6000)) for _ in range(300)]
    sizes += [(short * k, short * k + extra) for short in (64, 128, 256) for k in (1, 2, 4) for extra in range(1, 12)]
    for w, h in sizes:
        short = rng.choice([224, 256, 299, 320, 342, 64, 96, 160])
        operator = ResizeImage(resize_short=short)
        operator._resize_func = lambda image, size: size
        out.append([w, h, short, *operator(np.broadcast_to(np.uint8(0), (h, w, 3)))])
    return out


# --- decoding PNG -----------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, before=b"", after=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def tiff(orientation, order="<", kind=3, extra=()):
    """A TIFF block with the orientation tag and, before it, `extra` raw entries."""
    value = struct.pack(order + "HH", orientation, 0) if kind == 3 else struct.pack(order + "I", orientation)
    entries = [*extra, struct.pack(order + "HHI", 0x0112, kind, 1) + value]
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    return header + b"".join(entries) + bytes(4)


def png_inputs():
    noise = random.Random(2).randbytes
    grey8 = [noise(9) for _ in range(7)]
    rgb8 = [noise(27) for _ in range(7)]
    yield "grey.png", png(9, 7, 8, 0, grey8)
    yield "grey1.png", png(9, 7, 1, 0, [noise(2) for _ in range(7)])
    yield "grey2.png", png(9, 7, 2, 0, [noise(3) for _ in range(7)])
    yield "grey4.png", png(9, 7, 4, 0, [noise(5) for _ in range(7)])
    yield "grey16.png", png(9, 7, 16, 0, [noise(18) for _ in range(7)])
    yield "grey_alpha.png", png(9, 7, 8, 4, [noise(18) for _ in range(7)])
    yield "grey_alpha16.png", png(9, 7, 16, 4, [noise(36) for _ in range(7)])
    yield "grey_transparent.png", png(9, 7, 8, 0, grey8, chunk(b"tRNS", struct.pack(">H", grey8[0][0])))
    yield "rgb.png", png(9, 7, 8, 2, rgb8)
    yield "rgb16.png", png(9, 7, 16, 2, [noise(54) for _ in range(7)])
    yield "rgb_transparent.png", png(9, 7, 8, 2, rgb8, chunk(b"tRNS", struct.pack(">HHH", *rgb8[0][:3])))
    yield "rgba.png", png(9, 7, 8, 6, [noise(36) for _ in range(7)])
    yield "rgba16.png", png(9, 7, 16, 6, [noise(72) for _ in range(7)])
    yield "rgba_background.png", png(9, 7, 8, 6, [noise(36) for _ in range(7)], chunk(b"bKGD", bytes(6)))
    colours = noise(16 * 3)
    indices = [bytes(value % 16 for value in noise(9)) for _ in range(7)]
    yield "palette.png", png(9, 7, 8, 3, indices, chunk(b"PLTE", colours))
    yield "palette_transparent.png", png(9, 7, 8, 3, indices, chunk(b"PLTE", colours) + chunk(b"tRNS", noise(9)))
    yield "palette4.png", png(9, 7, 4, 3, [noise(5) for _ in range(7)], chunk(b"PLTE", colours))
    yield "palette_outside.png", png(9, 7, 8, 3, indices, chunk(b"PLTE", colours[:24]))
    yield "gamma.png", png(9, 7, 8, 2, rgb8, chunk(b"gAMA", struct.pack(">I", 100000)))
    yield "1x1.png", png(1, 1, 8, 2, [noise(3)])
    yield "3x1000.png", png(3, 1000, 8, 2, [bytes([y % 251, y % 7, 9] * 3) for y in range(1000)])
    for value in (3, 6):
        yield f"exif{value}_before.png", png(9, 7, 8, 2, rgb8, before=chunk(b"eXIf", tiff(value)))
        yield f"exif{value}_after.png", png(9, 7, 8, 2, rgb8, after=chunk(b"eXIf", tiff(value, ">")))
    data = io.BytesIO()
    Image.fromarray(pattern(31, 17)).save(data, "PNG")
    yield "filtered.png", data.getvalue()
    # Animations: the default picture as the first frame, or beside the frames; cv2 4.6 gives it in both cases.
    frames = [Image.fromarray(np.ascontiguousarray(pattern(31, 17)[i:, i:])).resize((13, 11)) for i in range(3)]
    for name, hidden in [("animated.png", False), ("animated_beside.png", True)]:
        data = io.BytesIO()
        frames[0].save(data, "PNG", save_all=True, append_images=frames[1:], default_image=hidden)
        assert b"acTL" in data.getvalue()
        yield name, data.getvalue()


# --- decoding JPEG ----------------------------------------------------------------------------------------------------


def jpeg(picture, **options):
    data = io.BytesIO()
    picture.save(data, "JPEG", **options)
    return data.getvalue()


def with_app1(data, payload):
    """`data` with an APP1 segment right after its start marker."""
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def jpeg_inputs(photo):
    # Small and smooth, and no two of its eight orientations are alike.
    y, x = np.mgrid[0:32, 0:48]
    corner = Image.fromarray(np.stack([x * 5, y * 7, (x > 30) * 200], -1).astype(np.uint8))
    upright = jpeg(corner, quality=95, subsampling=0)
    exif = b"Exif\0\0"
    for value in range(1, 9):
        yield f"exif{value}.jpg", with_app1(upright, exif + tiff(value, "<>"[value % 2]))
    yield "exif9.jpg", with_app1(upright, exif + tiff(9))
    # The value is read as 16 bits whatever the type of the tag; big-endian that is the empty half of 32 bits.
    yield "exif6_long_little.jpg", with_app1(upright, exif + tiff(6, "<", 4))
    yield "exif6_long_big.jpg", with_app1(upright, exif + tiff(6, ">", 4))
    # The first APP1 segment decides, even if it is not Exif.
    yield "exif6_then_3.jpg", with_app1(with_app1(upright, exif + tiff(3)), exif + tiff(6))
    yield "xmp_then_exif6.jpg", with_app1(
        with_app1(upright, exif + tiff(6)), b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
    )
    # A maker's name that claims to lie beyond the end.
    yield "exif6_after_broken.jpg", with_app1(
        upright, exif + tiff(6, "<", 3, [struct.pack("<HHII", 0x010F, 2, 9999, 200)])
    )
    yield "exif6_after_short.jpg", with_app1(
        upright, exif + tiff(6, "<", 3, [struct.pack("<HHI4s", 0x010F, 2, 4, b"abc\0")])
    )

    part = photo.crop((170, 100, 331, 221))
    yield "part_444.jpg", jpeg(part, quality=90, subsampling=0)
    yield "part_422.jpg", jpeg(part, quality=90, subsampling=1)
    yield "part_420.jpg", jpeg(part, quality=90, subsampling=2)
    yield "part_420_progressive.jpg", jpeg(part, quality=90, subsampling=2, progressive=True)
    yield "part_420_low.jpg", jpeg(part, quality=30, subsampling=2)
    yield "part_restart.jpg", jpeg(part, quality=90, subsampling=0, restart_marker_blocks=5)
    yield "part_grey.jpg", jpeg(part.convert("L"), quality=90)

    small = part.crop((0, 0, 33, 25))
    yield "1x1.jpg", jpeg(part.crop((0, 0, 1, 1)), quality=90)
    yield "rgb.jpg", (stored_rgb := jpeg(small, quality=90, keep_rgb=True))
    # The same components, named 1, 2, 3 instead of R, G, B: now only Adobe's segment says that they are RGB.
    assert b"Adobe" in stored_rgb
    renamed = bytearray(stored_rgb)
    frame = stored_rgb.index(b"\xff\xc0")
    scan = stored_rgb.index(b"\xff\xda")
    for i in range(3):
        renamed[frame + 10 + 3 * i] = renamed[scan + 5 + 2 * i] = i + 1
    yield "rgb_adobe.jpg", bytes(renamed)
    yield "cmyk.jpg", (cmyk := jpeg(small.convert("CMYK"), quality=90))
    # The same four components, declared to be YCCK by Adobe's transform byte. The colours are odd, the conversion is not.
    ycck = bytearray(cmyk)
    ycck[cmyk.index(b"Adobe") + 11] = 2
    yield "ycck.jpg", bytes(ycck)
    # And without Adobe's segment, which says that ink is stored inverted; cv2 takes it for granted.
    adobe = cmyk.index(b"\xff\xee")
    yield "cmyk_plain.jpg", cmyk[:adobe] + cmyk[adobe + 2 + int.from_bytes(cmyk[adobe + 2 : adobe + 4], "big") :]
    # Several pictures in a file, as cameras and telephones write them: the first one counts.
    data = io.BytesIO()
    small.save(data, "MPO", save_all=True, append_images=[small.rotate(180), small.rotate(90)], quality=90)
    assert data.getvalue().count(b"\xff\xd8\xff") == 3
    yield "several.jpg", data.getvalue()


def main():
    cv2.setNumThreads(1)
    for folder in (INPUTS, EXPECTED):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    pngs = []
    for name, data in png_inputs():
        (INPUTS / name).write_bytes(data)
        pngs.append({"file": name, **summary(decode(data))})

    photo_data = (PHOTOS / PHOTO).read_bytes()
    photo = Image.fromarray(decode(photo_data))
    jpegs = []
    for name, data in [(PHOTO, photo_data), *jpeg_inputs(photo)]:
        if name != PHOTO:
            (INPUTS / name).write_bytes(data)
        expected = Path(name).with_suffix(".png").name
        Image.fromarray(decode(data)).save(EXPECTED / expected, optimize=True)
        jpegs.append({"file": name, "expected": expected})

    list_file = Path(paddleclas.__file__).parent / "ppcls/utils/imagenet1k_label_list.txt"
    names = dict(line.rstrip().split(" ", 1) for line in list_file.read_text().splitlines())
    names = "".join(names[str(i)] + "\n" for i in range(len(names)))

    goldens = {
        "versions": {"cv2": cv2.__version__, "numpy": np.__version__, "pillow": PIL.__version__},
        "labels": {"count": names.count("\n"), "fnv": fnv(names.encode())},
        "resize": resize_goldens(),
        "resized_size": resized_size_goldens(),
        "preprocess": preprocess_goldens(EXPECTED / Path(PHOTO).with_suffix(".png").name),
        "png": pngs,
        "jpeg": jpegs,
    }
    write(HERE / "goldens.json", goldens)


if __name__ == "__main__":
    main()
