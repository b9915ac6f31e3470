"""Writes `training.json`: what PaddleClas's training transforms make of pictures, with Python's and NumPy's own generators.

    /work/peers/paddle/bin/python tests/goldens/preprocess/generate_training.py

`RandCropImage` and `RandFlipImage` are those of the wheel. `MixupOperator` (`ppcls/data/preprocess/batch_ops/
batch_operators.py`) and label smoothing (`ppcls/loss/celoss.py`) are not in it; their few lines are called here as
PaddleClas calls them: `np.random.permutation`, then `np.random.beta`, then the sums; `paddle.nn.functional.label_smooth`.
"""

import random
from pathlib import Path

import numpy as np
import paddle
from paddleclas.deploy.python.preprocess import NormalizeImage, RandCropImage, RandFlipImage, ToCHWImage

from common import fnv, pattern, write


def augment_goldens():
    for seed, (w, h), size in [
        (0, (90, 70), 33), (1, (70, 90), 33), (2, (128, 128), 64), (3, (300, 20), 33), (4, (20, 300), 33),
        (5, (500, 375), 224), (6, (8, 8), 16), (2**32 + 7, (90, 70), 33), (2**63 + 8, (41, 97), 20),
    ]:
        random.seed(seed)
        for turn in range(4):
            out = RandFlipImage(flip_code=1)(RandCropImage(size=size)(pattern(w, h)))
            out = NormalizeImage(scale="1.0/255.0", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], order="")(out)
            out = np.ascontiguousarray(ToCHWImage()(out))
            yield {"seed": seed, "turn": turn, "pattern": [w, h], "crop": size, "fnv": fnv(out.astype("<f4").tobytes()),
                   "first": float(out.flat[0]), "last": float(out.flat[-1])}


def mixup_goldens():
    for seed, count, alpha in [(0, 1, 0.2), (1, 2, 0.2), (2, 64, 0.2), (3, 9, 0.2), (4, 8, 1.0), (5, 257, 0.5), (6, 5, 0.01)]:
        np.random.seed(seed)
        images = np.stack([pattern(3, 2).reshape(-1).astype(np.float32) / 255 * (i + 1) for i in range(count)])
        for turn in range(3):
            partners = np.random.permutation(count)
            share = np.random.beta(alpha, alpha)
            mixed = share * images + (1 - share) * images[partners]
            assert mixed.dtype == np.float32
            yield {"seed": seed, "turn": turn, "count": count, "alpha": alpha, "partners": partners.tolist(), "share": share,
                   "fnv": fnv(np.ascontiguousarray(mixed).tobytes())}


def smoothing_goldens():
    for classes, label, epsilon in [(5, 2, 0.1), (1000, 999, 0.1), (10, 0, 0.3)]:
        one_hot = paddle.nn.functional.one_hot(paddle.to_tensor([label]), classes)
        soft = paddle.nn.functional.label_smooth(one_hot, epsilon=epsilon).numpy()[0]
        yield {"classes": classes, "label": label, "epsilon": epsilon, "on": float(soft[label]), "off": float(soft[label - 1])}


if __name__ == "__main__":
    write(Path(__file__).resolve().parent / "training.json", {
        "versions": {"paddlepaddle": paddle.__version__, "numpy": np.__version__},
        "augment": list(augment_goldens()),
        "mixup": list(mixup_goldens()),
        "smoothing": list(smoothing_goldens()),
    })
