"""Writes `eval.json`: what PaddleClas's own evaluation gives for checkpoints with the formula's weights on the formula's pictures.

    git clone https://github.com/PaddlePaddle/PaddleClas; git -C PaddleClas checkout d178931fca43
    PYTHONPATH=PaddleClas /work/peers/paddle/bin/python tests/goldens/eval/generate.py

in the environment of `../generate.py`, whose formula and networks it uses. The wheel of 2.6.0 lacks PaddleClas's `Engine`; the
commit above is the source of that time. For each network the generator saves `model.state_dict()` as `.pdparams` (`sha256`
is that of the file; `../weights/skeletons` has it without its weights) and the pictures as PNG with a list, and then does
what `tools/eval.py -c ppcls/configs/ImageNet/.../NAME.yaml` does: reader, transforms, loop, loss and metrics are those of
`Engine(config, mode="eval").eval()`. The pictures are computed by `picture` here and by the test (`crates/inception-cli/tests/eval.rs`). A
picture's label is the class that PaddleClas ranks at one of `RANKS`, so that top-1 and top-5 are neither nothing nor all.

`loss` is the cross entropy of the classifier, as `CELoss` has it. PaddleClas's configuration of GoogLeNet evaluates with
`GoogLeNetLoss`, which adds 0.3 of each auxiliary head's; that figure is `loss_with_auxiliary_heads`.
"""
import glob
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from PIL import Image

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


def evaluate(name, folder):
    """Top-1, top-5 and losses by PaddleClas's engine, from what `predict` has put into `folder`."""
    import ppcls
    from ppcls.engine.engine import Engine
    from ppcls.utils import config

    root = os.path.dirname(ppcls.__file__)
    (file,) = glob.glob(f"{root}/configs/ImageNet/*/{name}.yaml")
    overrides = {"Global.device": "cpu", "Global.pretrained_model": f"{folder}/{name}", "Global.output_dir": folder,
                 "DataLoader.Eval.dataset.image_root": folder, "DataLoader.Eval.dataset.cls_label_path": f"{folder}/list.txt",
                 "DataLoader.Eval.sampler.batch_size": BATCH, "DataLoader.Eval.loader.num_workers": 0,
                 "DataLoader.Eval.loader.use_shared_memory": False}
    settings = config.get_config(file, overrides=[f"{key}={value}" for key, value in overrides.items()], show=False)
    engine = Engine(settings, mode="eval")
    loss_func, sums = engine.eval_loss_func, {"configured": 0.0, "classifier": 0.0}

    def watched(predictions, labels):
        import paddle.nn.functional as F

        losses = loss_func(predictions, labels)
        scores = predictions[0] if isinstance(predictions, (list, tuple)) else predictions
        sums["configured"] += float(losses["loss"]) * len(labels)
        sums["classifier"] += float(F.cross_entropy(scores, label=labels, soft_label=False).mean()) * len(labels)
        return losses

    engine.eval_loss_func = watched
    engine.eval()
    (metric,) = engine.eval_metric_func.metric_func_list
    counts = {name: float(meter.sum) for name, meter in metric.avg_meters.items()}
    return {**counts, **{name: value / len(SIZES) for name, value in sums.items()}}


def predict(name, folder):
    """Labels from PaddleClas's predictions; puts the checkpoint, the pictures and their list into `folder`."""
    import paddle

    model = build(name)
    state = model.state_dict()
    model.set_state_dict({k: paddle.to_tensor(tensor(k, list(v.shape))) for k, v in state.items()})
    model.eval()
    size = 224 if name == "GoogLeNet" else 299
    pictures = [picture(i, *wh) for i, wh in enumerate(SIZES)]
    with paddle.no_grad():
        scores = model(paddle.to_tensor(np.stack([preprocess(picture, size) for picture in pictures])))
    scores = (scores[0] if isinstance(scores, (list, tuple)) else scores).numpy()
    labels, ranks = zip(*(label_at(row, rank) for row, rank in zip(scores, RANKS)))
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(f"{folder}/{i}.png")
    with open(f"{folder}/list.txt", "w") as file:
        file.writelines(f"{i}.png {label}\n" for i, label in enumerate(labels))
    paddle.save(model.state_dict(), f"{folder}/{name}.pdparams")
    with open(f"{folder}/{name}.pdparams", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return {"model": name, "sha256": digest, "labels": labels, "ranks": ranks}


def network(name):
    def run(step):
        # Paddle refuses a second network with the same parameter names in one process.
        command = [sys.executable, os.path.abspath(__file__), step, name, folder]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        golden, sums = run("predict"), run("evaluate")
    golden.update(top1=round(sums["top1"]), top5=round(sums["top5"]), loss=sums["classifier"])
    assert golden["top1"] == sum(r < 1 for r in golden["ranks"]) and golden["top5"] == sum(r < 5 for r in golden["ranks"])
    if abs(sums["configured"] - sums["classifier"]) > 1e-6:
        golden["loss_with_auxiliary_heads"] = sums["configured"]
    return golden


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps({"predict": predict, "evaluate": evaluate}[sys.argv[1]](*sys.argv[2:])))
    else:
        networks = [network(name) for name in NETWORKS]
        pictures = [picture(0, 5, 3)[0].reshape(-1).tolist(), picture(1, 70, 40)[39, 60:].reshape(-1).tolist()]
        with open(os.path.join(HERE, "eval.json"), "w") as file:
            rows = ",\n".join("  " + json.dumps(row) for row in networks)
            file.write(f'{{\n"sizes": {json.dumps(SIZES)},\n"pictures": {json.dumps(pictures)},\n"networks": [\n{rows}\n]\n}}\n')
