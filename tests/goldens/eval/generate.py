"""Writes `eval.json`: what PaddleClas's evaluation gives for networks with the formula's weights on the formula's pictures.

    /work/peers/paddle/bin/python tests/goldens/eval/generate.py

in the environment of `../generate.py`, whose formula and networks it uses. PaddleClas's evaluation loop
(`ppcls/engine/evaluation/classification.py`) is not in the wheel; `evaluate` below does what it does with the operators
that are: batches in order, `F.cross_entropy` and `paddle.metric.accuracy` of each, averaged with the batches' sizes as
weights. The pictures are computed by `picture` here and by the test (`xtask/tests/eval.rs`), which writes them as PNG. A
picture's label is the class that PaddleClas ranks at one of `RANKS`, so that top-1 and top-5 are neither nothing nor all.

`loss` is the cross entropy of the classifier. PaddleClas's configuration of GoogLeNet evaluates with `GoogLeNetLoss`, which
adds 0.3 of each auxiliary head's; that figure is `loss_with_auxiliary_heads`.
"""
import json
import os
import subprocess
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from generate import build, tensor, uniform  # noqa: E402

NETWORKS = ["GoogLeNet", "Xception41", "Xception41_deeplab", "InceptionV3", "InceptionV4"]
SIZES = [(360, 330), (300, 420), (512, 300), (320, 320), (299, 640), (333, 500), (640, 480), (431, 299), (310, 305), (500, 375)]
RANKS = [0, 0, 2, 0, 7, 4, 1, 20, 5, 3]
BATCH = 4


def picture(index, width, height):
    """[height, width, 3] of 8 bits: noise over squares of 32 pixels."""
    wide = (width + 31) // 32
    high = (height + 31) // 32
    squares = uniform(f"picture squares {index}", 3 * wide * high).reshape(high, wide, 3)
    squares = squares.repeat(32, axis=0).repeat(32, axis=1)[:height, :width]
    noise = uniform(f"picture noise {index}", 3 * width * height).reshape(height, width, 3)
    return np.floor(127.5 + squares * 90.0 + noise * 30.0).astype(np.uint8)


def preprocess(rgb, size):
    from paddleclas.deploy.python import preprocess as op

    for step in (op.ResizeImage(resize_short=256 if size == 224 else 320), op.CropImage(size=size),
                 op.NormalizeImage(scale="1.0/255.0", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], order=""),
                 op.ToCHWImage()):
        rgb = step(rgb)
    return rgb.astype(np.float32)


def label_at(scores, rank):
    """The class at `rank`, or at the next one that no rounding can move over a boundary that counts."""
    order = np.argsort(-scores, kind="stable")
    for rank in range(rank, rank + 3):
        gaps = [abs(scores[order[rank]] - scores[order[other]]) for other in (rank - 1, rank + 1) if other >= 0]
        if min(gaps) > 1e-4 * np.abs(scores).max():
            return int(order[rank]), rank
    raise ValueError("the scores are too close")


def evaluate(model, x, labels):
    import paddle
    import paddle.nn.functional as F

    sums = {"loss": 0.0, "all": 0.0, "top1": 0.0, "top5": 0.0}
    for start in range(0, len(x), BATCH):
        batch = paddle.to_tensor(x[start : start + BATCH])
        label = paddle.to_tensor(labels[start : start + BATCH]).reshape([-1, 1]).astype("int64")
        with paddle.no_grad():
            out = model(batch)
        out, heads = (out[0], out[1:]) if isinstance(out, (list, tuple)) else (out, [])
        loss = float(F.cross_entropy(out, label=label, soft_label=False).mean())
        sums["loss"] += loss * len(batch)
        sums["all"] += (loss + sum(0.3 * float(F.cross_entropy(head, label=label).mean()) for head in heads)) * len(batch)
        scores = F.softmax(out, axis=-1)
        for k in (1, 5):
            sums[f"top{k}"] += float(paddle.metric.accuracy(scores, label, k=k)) * len(batch)
    return {name: value / len(x) for name, value in sums.items()}


def network(name):
    import paddle

    model = build(name)
    state = model.state_dict()
    model.set_state_dict({k: paddle.to_tensor(tensor(k, list(v.shape))) for k, v in state.items()})
    model.eval()
    size = 224 if name == "GoogLeNet" else 299
    x = np.stack([preprocess(picture(i, *wh), size) for i, wh in enumerate(SIZES)])
    with paddle.no_grad():
        scores = model(paddle.to_tensor(x))
    scores = (scores[0] if isinstance(scores, (list, tuple)) else scores).numpy()
    labels, ranks = zip(*(label_at(row, rank) for row, rank in zip(scores, RANKS)))
    sums = evaluate(model, x, np.array(labels))
    golden = {"model": name, "labels": labels, "ranks": ranks, "top1": round(sums["top1"] * len(x)),
              "top5": round(sums["top5"] * len(x)), "loss": sums["loss"]}
    assert golden["top1"] == sum(r < 1 for r in ranks) and golden["top5"] == sum(r < 5 for r in ranks)
    if sums["all"] != sums["loss"]:
        golden["loss_with_auxiliary_heads"] = sums["all"]
    return golden


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(network(sys.argv[1])))
    else:
        # Paddle refuses a second network with the same parameter names in one process.
        runs = [subprocess.run([sys.executable, os.path.abspath(__file__), name], check=True, capture_output=True, text=True)
                for name in NETWORKS]
        networks = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
        pictures = [picture(0, 5, 3)[0].reshape(-1).tolist(), picture(1, 70, 40)[39, 60:].reshape(-1).tolist()]
        with open(os.path.join(HERE, "eval.json"), "w") as file:
            rows = ",\n".join("  " + json.dumps(row) for row in networks)
            file.write(f'{{\n"sizes": {json.dumps(SIZES)},\n"pictures": {json.dumps(pictures)},\n"networks": [\n{rows}\n]\n}}\n')
