"""Writes `pillow.json`: what Pillow's resizing and torchvision's evaluation transforms make of pictures.

    /work/peers/rivals/bin/python tests/goldens/preprocess/generate_pillow.py

in an environment with Pillow, torch and torchvision; timm's transforms call these. The pictures come from the formula
that `generate.py` uses, too. `resize` has a hash of all pixels for each size and filter, `preprocess` and `ten_crop` one
of all bits of the float tensor.
"""

from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Normalize, Resize, TenCrop, ToTensor

from common import fnv, pattern, resize_cases, summary, write

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FILTERS = {"pil-bilinear": InterpolationMode.BILINEAR, "pil-bicubic": InterpolationMode.BICUBIC}
PIL_FILTERS = {"pil-bilinear": Image.BILINEAR, "pil-bicubic": Image.BICUBIC}


def resize_goldens():
    for name, method in PIL_FILTERS.items():
        for w, h, w2, h2 in resize_cases() + [(1200, 9, 7, 9), (9, 1200, 9, 7), (800, 600, 33, 25)]:
            resized = np.asarray(Image.fromarray(pattern(w, h)).resize((w2, h2), method))
            yield {"resampler": name, "from": [w, h], **summary(resized)}


def tensor(picture, mean, std):
    return Normalize(mean, std)(ToTensor()(picture)).numpy()


def golden(size, name, short, crop, mean, std, array):
    array = np.ascontiguousarray(array)
    flat = array.reshape(-1)
    at = [0, flat.size // 2, flat.size - 1]
    return {
        "pattern": size, "resampler": name, "resize_short": short, "crop": crop, "mean": mean, "std": std,
        "fnv": fnv(array.astype("<f4").tobytes()), "values": [[i, float(flat[i])] for i in at],
    }


# Every remainder of the margin by 4, both ways round; no margin.
CASES = [(90 + i, 77, 60, crop) for i in range(8) for crop in (41, 42)] + [
    (77, 91, 60, 60), (60, 60, 60, 41), (500, 375, 342, 299), (375, 500, 256, 224), (33, 200, 64, 61), (200, 33, 64, 61),
]


def preprocess_goldens():
    for w, h, short, crop in CASES:
        for name, mode in FILTERS.items():
            mean, std = (MEAN, STD) if name == "pil-bilinear" else ([0.5] * 3, [0.5] * 3)
            resized = Resize(short, mode)(Image.fromarray(pattern(w, h)))
            out = tensor(CenterCrop(crop)(resized), mean, std)
            yield {**golden([w, h], name, short, crop, mean, std, out), "resized": list(resized.size)}


def ten_crop_goldens():
    for w, h, short, crop in CASES[:4] + [(60, 60, 60, 41)]:
        resized = Resize(short, InterpolationMode.BICUBIC)(Image.fromarray(pattern(w, h)))
        out = np.stack([tensor(part, MEAN, STD) for part in TenCrop(crop)(resized)])
        yield golden([w, h], "pil-bicubic", short, crop, MEAN, STD, out)


if __name__ == "__main__":
    versions = {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    write(Path(__file__).resolve().parent / "pillow.json", {
        "versions": versions,
        "resize": list(resize_goldens()),
        "preprocess": list(preprocess_goldens()),
        "ten_crop": list(ten_crop_goldens()),
    })
