"""Writes `formats.json` and `formats/`: pictures of many formats and kinds, and what OpenCV and Pillow make of each.

    /work/peers/paddle/bin/python tests/goldens/preprocess/generate_formats.py

OpenCV is 4.6.0, as PaddleClas has it, Pillow 13.0.0; `cjpeg` is of libjpeg-turbo 2.1.5 (Debian's libjpeg-turbo-progs).
`null` means that the library refuses the file. `formats.json` has the hash of the pixels that each gives.
"""

import io
import random
import shutil
import struct
import subprocess
import warnings
from pathlib import Path

import cv2
import numpy as np
import PIL
from PIL import Image

from common import pattern, summary, write
from generate import tiff as exif_block

HERE = Path(__file__).resolve().parent
OUT = HERE / "formats"
PHOTO = HERE.parents[1] / "images/ILSVRC2012_val_00010010.jpeg"
SCRIPTS = {
    "apart": "0;1;2;",
    "apart_reversed": "2;1;0;",
    "two_of_three": "0 1;2;",
    "progressive_apart": "0,1,2:0-0,0,1;0:1-5,0,2;2:1-63,0,1;1:1-63,0,1;0:6-63,0,2;0:1-63,2,1;0,1,2:0-0,1,0;"
    "2:1-63,1,0;1:1-63,1,0;0:1-63,1,0;",
}


def cjpeg(rgb, *options, script=None):
    height, width = rgb.shape[:2]
    options = list(options)
    if script:
        path = OUT / "script.txt"
        path.write_text(SCRIPTS[script])
        options += ["-scans", path]
    ppm = b"P6 %d %d 255\n" % (width, height) + rgb.tobytes()
    data = subprocess.run(["cjpeg", *options], input=ppm, capture_output=True, check=True).stdout
    if script:
        path.unlink()
    return data


def jpegs(photo):
    part = np.ascontiguousarray(photo[100:129, 170:207])
    samplings = ["1x1", "2x1", "2x2", "1x2", "4x1", "1x4", "4x2", "2x4", "3x1", "2x2,1x2,1x2",
                 "2x2,2x1,1x1", "2x1,1x1,2x1", "2x2,2x2,1x1"]
    for sampling in samplings:
        name = sampling.replace(",", "_")
        yield f"{name}.jpg", cjpeg(part, "-quality", "85", "-sample", sampling)
        yield f"{name}_progressive.jpg", cjpeg(part, "-quality", "85", "-sample", sampling, "-progressive")
    for sampling in ["1x1", "2x1", "2x2", "1x2"]:
        yield f"{sampling}_arithmetic.jpg", cjpeg(part, "-sample", sampling, "-arithmetic")
        yield f"{sampling}_arithmetic_progressive.jpg", cjpeg(part, "-sample", sampling, "-arithmetic", "-progressive")
        yield f"{sampling}_restart.jpg", cjpeg(part, "-sample", sampling, "-restart", "2B")
        for script in ["apart", "apart_reversed", "progressive_apart"]:
            yield f"{sampling}_{script}.jpg", cjpeg(part, "-sample", sampling, script=script)
        for quality in (1, 30, 100):
            noise = pattern(23, 19)
            yield f"{sampling}_noise_{quality}.jpg", cjpeg(noise, "-quality", str(quality), "-sample", sampling)
    for width, height in [(1, 1), (1, 17), (17, 1), (7, 9), (8, 8), (9, 7), (15, 33), (16, 16), (33, 15)]:
        yield f"{width}x{height}_420.jpg", cjpeg(np.ascontiguousarray(photo[:height, :width]), "-sample", "2x2")
        yield f"{width}x{height}_422.jpg", cjpeg(np.ascontiguousarray(photo[:height, :width]), "-sample", "2x1")
    yield "grey_progressive.jpg", cjpeg(part, "-grayscale", "-progressive")
    yield "rgb_stored.jpg", cjpeg(part, "-rgb")
    plain = cjpeg(part, "-sample", "2x2")
    table = plain.index(b"\xff\xdb")
    yield "stray_bytes.jpg", plain[:table] + b"\x12\x34\x56" + plain[table:]
    cmyk = io.BytesIO()
    Image.fromarray(part).convert("CMYK").save(cmyk, "JPEG", quality=90, progressive=True)
    yield "cmyk_progressive.jpg", cmyk.getvalue()
    # What the decoder refuses, and OpenCV does not.
    yield "refused_two_of_three.jpg", cjpeg(part, "-sample", "1x1", script="two_of_three")
    yield "refused_finer_chroma.jpg", cjpeg(part, "-sample", "1x1,2x1,1x1")


def saved(picture, kind, **options):
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def webps(picture, alpha):
    yield "lossy.webp", saved(picture, "WEBP", quality=80)
    yield "lossy_low.webp", saved(picture, "WEBP", quality=10)
    yield "lossless.webp", saved(picture, "WEBP", lossless=True)
    yield "lossy_alpha.webp", saved(alpha, "WEBP", quality=80)
    yield "lossless_alpha.webp", saved(alpha, "WEBP", lossless=True)
    yield "1x1.webp", saved(picture.crop((0, 0, 1, 1)), "WEBP", quality=80)
    yield "odd.webp", saved(picture.crop((0, 0, 19, 7)), "WEBP", quality=60)
    yield "exif6.webp", saved(picture, "WEBP", quality=80, exif=b"Exif\0\0" + exif_block(6))
    yield "animated.webp", saved(picture, "WEBP", save_all=True, append_images=[picture.rotate(180)], quality=80)


def gifs(picture, rng):
    indexed = picture.quantize(31)
    yield "plain.gif", saved(indexed, "GIF", interlace=False)
    yield "interlaced.gif", saved(indexed, "GIF", interlace=True)
    yield "transparent.gif", saved(indexed, "GIF", transparency=indexed.getpixel((0, 0)))
    yield "grey.gif", saved(picture.convert("L"), "GIF")
    yield "animated.gif", saved(indexed, "GIF", save_all=True, append_images=[indexed.rotate(180)])
    # A first frame smaller than the canvas, with a palette of its own; the background is colour 1 of the global one.
    frame = saved(indexed.crop((0, 0, 9, 7)), "GIF", interlace=False)
    start = frame.index(b",")
    colours = frame[13 : 13 + 3 * 2 ** ((frame[10] & 7) + 1)]
    size = frame[10] & 7
    header = b"GIF89a" + struct.pack("<HHBBB", 15, 11, 0x80 | size, 1, 0) + colours
    yield "small_frame.gif", header + b"," + struct.pack("<HHHHB", 3, 2, 9, 7, 0) + frame[start + 10 :]
    local = bytes(reversed(colours))
    yield "local_palette.gif", header + b"," + struct.pack("<HHHHB", 0, 0, 9, 7, 0x80 | size) + local + frame[start + 10 :]


def bmp(width, height, bits, rows, palette=b"", compression=0, masks=b"", header_size=40):
    info = struct.pack("<IiiHHIIiiII", header_size, width, height, 1, bits, compression, len(rows), 2835, 2835, len(palette) // 4, 0)
    info += masks + bytes(max(0, header_size - 40 - len(masks)))
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + palette + rows


def bmps(rng):
    def rows(stride, count=5):
        return rng.randbytes((stride + 3) // 4 * 4 * count)
    colours = b"".join(rng.randbytes(3) + b"\0" for _ in range(256))
    yield "1.bmp", bmp(9, 5, 1, rows(2), colours[:8])
    yield "4.bmp", bmp(9, 5, 4, rows(5), colours[:64])
    yield "8.bmp", bmp(9, 5, 8, rows(9), colours)
    yield "8_top_down.bmp", bmp(9, -5, 8, rows(9), colours)
    yield "16.bmp", bmp(9, 5, 16, rows(18))
    yield "16_565.bmp", bmp(9, 5, 16, rows(18), compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    yield "24.bmp", bmp(9, 5, 24, rows(27))
    yield "24_top_down.bmp", bmp(9, -5, 24, rows(27))
    yield "32.bmp", bmp(9, 5, 32, rows(36))
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    yield "32_masks.bmp", bmp(9, 5, 32, rows(36), compression=3, masks=masks, header_size=108)
    core = struct.pack("<IHHHH", 12, 9, 5, 1, 24)
    data = rows(27)
    yield "os2.bmp", b"BM" + struct.pack("<IHHI", 26 + len(data), 0, 0, 26) + core + data
    runs = b"".join(bytes([4, i, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]) for i in range(5))
    yield "rle8.bmp", bmp(9, 5, 8, runs + b"\0\1", colours, compression=1)
    runs = b"".join(bytes([4, 0x12 + i, 0, 5, 0x12, 0x34, 0x50, 0, 0, 0]) for i in range(5))
    yield "rle4.bmp", bmp(9, 5, 4, runs + b"\0\1", colours[:64], compression=2)


def tiffs(picture, alpha, noise16):
    grey = picture.convert("L")
    yield "grey.tif", saved(grey, "TIFF")
    yield "rgb.tif", saved(picture, "TIFF")
    yield "rgb_lzw.tif", saved(picture, "TIFF", compression="tiff_lzw")
    yield "rgb_deflate.tif", saved(picture, "TIFF", compression="tiff_adobe_deflate")
    yield "rgb_packbits.tif", saved(picture, "TIFF", compression="packbits")
    yield "rgba.tif", saved(alpha, "TIFF")
    yield "refused_palette.tif", saved(picture.quantize(40), "TIFF")
    yield "bilevel.tif", saved(picture.convert("1"), "TIFF")
    yield "fax4.tif", saved(picture.convert("1"), "TIFF", compression="group4")
    yield "cmyk.tif", saved(picture.convert("CMYK"), "TIFF")
    yield "grey16.tif", saved(Image.fromarray(noise16[..., 0]), "TIFF")
    yield "exif6.tif", saved(picture, "TIFF", tiffinfo={274: 6})
    rgb16 = cv2.imencode(".tif", noise16)[1].tobytes()
    yield "rgb16.tif", rgb16


def pnms(rng):
    yield "1.pbm", b"P1\n# a comment\n5 3\n1 0 1 0 1\n0 1 0 1 0\n1 1 0 0 1\n"
    yield "2.pgm", b"P2 3 2 100\n0 50 100\n7 99 1\n"
    yield "3.ppm", b"P3\n2 2\n255\n255 0 1  2 3 4\n5 6 7  8 9 10\n"
    yield "4.pbm", b"P4 11 3\n" + rng.randbytes(6)
    yield "5.pgm", b"P5 5 3 255\n" + rng.randbytes(15)
    yield "5_100.pgm", b"P5 5 3 100\n" + bytes(rng.randrange(101) for _ in range(15))
    yield "5_65535.pgm", b"P5 5 3 65535\n" + rng.randbytes(30)
    yield "6.ppm", b"P6\n# made by hand\n5 3\n255\n" + rng.randbytes(45)
    yield "6_65535.ppm", b"P6 5 3 65535\n" + rng.randbytes(90)


def by_opencv(data):
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if decoded is None else summary(decoded[..., ::-1])


def by_pillow(data):
    try:
        return summary(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    except (OSError, ValueError, SyntaxError):
        return None


def main():
    warnings.simplefilter("ignore")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    rng = random.Random(3)
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))
    picture = Image.fromarray(np.ascontiguousarray(photo[100:125, 170:203]))
    alpha = picture.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.ascontiguousarray(pattern(33, 25)[..., 0])))
    noise16 = np.frombuffer(rng.randbytes(11 * 7 * 3 * 2), "<u2").reshape(7, 11, 3)
    made = [
        *jpegs(photo), *webps(picture, alpha), *gifs(picture, rng), *bmps(rng), *tiffs(picture, alpha, noise16), *pnms(rng)
    ]
    entries = []
    for name, data in made:
        (OUT / name).write_bytes(data)
        entries.append({"file": name, "opencv": by_opencv(data), "pillow": by_pillow(data)})
    versions = {"cv2": cv2.__version__, "pillow": PIL.__version__}
    write(HERE / "formats.json", {"versions": versions, "files": entries})


if __name__ == "__main__":
    main()
