"""Writes NAME.json beside this file: what PaddleClas 2.6 computes for each network from the formula's weights.

usage: ENV/bin/python tests/goldens/generate.py [NAME...]
where ENV has paddlepaddle==3.3.1, paddleclas==2.6.0 and numpy==1.24.4 (python 3.11).

Weights and images come from one integer formula of (key, index), which `tests/src/formula.rs` evaluates too, so that
no weights need to be stored. Keys are PaddleClas's own: whoever loads them must know what they are called here.

Each file holds, for one image size:
  keys      every key of the state dict with its shape, in order
  stages    name, shape, mean and 2-norm of the map after each stage for image 0
  logits    of images 0, 1 and 2 of the formula, run as one batch
  photograph  logits of a photograph, read and preprocessed by PaddleClas's own operators
  parameters, macs  trainable values, and multiply-adds of inference on one image, counted over Paddle's layers
and for GoogLeNet the logits of both auxiliary heads and the main logits at 299.
"""
import inspect
import json
import os
import subprocess
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
MASK = (1 << 64) - 1


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def uniform(key, count):
    """count values in (-1, 1): 24 bits of splitmix64, exact in f64."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(key)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    bits = (z >> np.uint64(40)).astype(np.float64)
    return (2.0 * bits + 1.0) / 2.0**24 - 1.0


def tensor(key, shape):
    """The value of a state dict's tensor: activations neither die out nor explode, nor forget the image, over 70 layers."""
    u = uniform(key, int(np.prod(shape)))
    if len(shape) == 4:
        # Variance 2 / fan-in before a ReLU; depthwise kernels have none right behind them.
        u = u * np.sqrt((3.0 if shape[1] == 1 else 6.0) / (shape[1] * shape[2] * shape[3]))
    elif len(shape) == 2:
        u = u * np.sqrt(3.0 / shape[0])
    elif key.endswith("._variance"):
        u = 1.0 + u * 0.5
    elif key.endswith((".bias", "._mean")):
        u = u * 0.15
    else:
        u = 0.9 + u * 0.2  # a norm's scale
    return u.astype(np.float32).reshape(shape)


def images(count, size):
    """[count, 3, size, size]: noise over a chequered pattern of 32-pixel squares."""
    noise = np.stack([uniform(f"image{i}", 3 * size * size).reshape(3, size, size) for i in range(count)])
    side = (size + 31) // 32
    squares = np.stack([uniform(f"squares{i}", 3 * side * side).reshape(3, side, side) for i in range(count)])
    squares = squares.repeat(32, axis=2).repeat(32, axis=3)[:, :, :size, :size]
    return (squares * 1.5 + noise * 0.5).astype(np.float32)


def blocks(*groups):
    return [(name.format(i), [key.format(i + offset)]) for name, key, start, stop, offset in groups for i in range(start, stop + 1)]


def xception(entry, middle):
    e, m, x = "_entry_flow._conv", "_middle_flow._conv", "_exit_flow._conv"
    return [("conv1", [e + "1"]), ("conv2", [e + "2"])] + blocks(
        ("entry{}", e + "_{}", 1, entry, -1), ("middle{}", m + "_{}", 1, middle, -1), ("exit{}", x + "_{}", 1, 1, -1)
    ) + [("exit2", ["relu:" + x + "_2"])]


def deeplab(name, middle):
    return [("conv1", ["_conv1"]), ("conv2", ["_conv2"])] + blocks(
        ("entry{}", name + "/entry_flow/block{}", 1, 3, 0), ("middle{}", name + "/middle_flow/block{}", 1, middle, 0),
        ("exit{}", "_exit_flow_{}", 1, 2, 0))


# Our stage -> the sublayers whose outputs, concatenated over channels, are its map ("a@2": the third call of a).
STAGES = {
    "GoogLeNet": [("conv1", ["_conv"]), ("pool1", ["_pool@0"]), ("conv2_reduce", ["_conv_1"]), ("conv2", ["_conv_2"]),
                  ("pool2", ["_pool@1"]), ("3a", ["_ince3a"]), ("3b", ["_ince3b"]), ("pool3", ["_pool@2"])]
    + [(f"4{c}", [f"_ince4{c}"]) for c in "abcde"] + [("pool4", ["_pool@3"]), ("5a", ["_ince5a"]), ("5b", ["_ince5b"])],
    "InceptionV3": [(ours, ["inception_stem." + theirs]) for ours, theirs in (
        ("conv1a", "conv_1a_3x3"), ("conv2a", "conv_2a_3x3"), ("conv2b", "conv_2b_3x3"), ("pool2", "max_pool@0"),
        ("conv3b", "conv_3b_1x1"), ("conv4a", "conv_4a_3x3"), ("pool4", "max_pool@1"))]
    + [(ours, [f"inception_block_list.{i}"]) for i, ours in enumerate("a1 a2 a3 b c1 c2 c3 c4 d e1 e2".split())],
    "InceptionV4": [(ours, ["_inception_stem." + t for t in theirs.split()]) for ours, theirs in (
        ("conv1", "_conv_1"), ("conv2", "_conv_2"), ("conv3", "_conv_3"), ("mixed3", "_pool@0 _conv2"),
        ("mixed4", "_conv1_2 _conv2_4"), ("mixed5", "_conv3 _pool@1"))]
    + blocks(("a{}", "_inceptionA_{}", 1, 4, 0)) + [("reduction_a", ["_reductionA"])]
    + blocks(("b{}", "_inceptionB_{}", 1, 7, 0)) + [("reduction_b", ["_reductionB"])]
    + blocks(("c{}", "_inceptionC_{}", 1, 3, 0)),
    "Xception41": xception(3, 8), "Xception65": xception(3, 16), "Xception71": xception(5, 16),
    "Xception41_deeplab": deeplab("xception_41", 8), "Xception65_deeplab": deeplab("xception_65", 16),
}


def build(name, output_stride=32):
    from paddleclas.ppcls.arch.backbone.legendary_models import inception_v3
    from paddleclas.ppcls.arch.backbone.model_zoo import googlenet, inception_v4, xception, xception_deeplab

    if output_stride != 32:
        # The output stride is a constant inside the constructor: run the same source with another.
        source = inspect.getsource(xception_deeplab.XceptionDeeplab)
        changed = source.replace("self.output_stride = 32", f"self.output_stride = {output_stride}")
        assert changed != source
        exec(changed, xception_deeplab.__dict__)
    modules = (googlenet, inception_v4, xception, xception_deeplab, inception_v3)
    return next(getattr(m, name) for m in modules if hasattr(m, name))()


def run(model, x, stages=()):
    """The outputs, and the map of each stage for image 0."""
    import paddle

    calls = {}
    layers = dict(model.named_sublayers())
    wanted = {key.split(":")[-1].split("@")[0] for _, keys in stages for key in keys}
    hooks = [layers[k].register_forward_post_hook(
        lambda layer, args, out, k=k: calls.setdefault(k, []).append(out[:1].numpy())) for k in wanted]
    with paddle.no_grad():
        out = model(paddle.to_tensor(x))
    for hook in hooks:
        hook.remove()
    out = [o.numpy() for o in (out if isinstance(out, (list, tuple)) else [out])]
    rows = []
    for name, keys in stages:
        parts = []
        for key in keys:
            relu, key = key.startswith("relu:"), key.split(":")[-1]
            path, _, call = key.partition("@")
            part = calls[path][int(call or 0)]
            parts.append(np.maximum(part, 0) if relu else part)
        m = np.concatenate(parts, axis=1).astype(np.float64)
        rows.append({"name": name, "shape": list(m.shape[1:]), "mean": m.mean(), "norm": float(np.sqrt((m * m).sum()))})
    return out, rows


def count(model, x):
    """Trainable values, and multiply-adds on the way from the image to the main logits."""
    import paddle

    macs = []
    auxiliary = ("_conv_o", "_fc_o1", "_fc_o2", "_out1", "_out2")  # GoogLeNet's heads; its classifier is _fc_out

    def conv(layer, args, out):
        macs.append(int(np.prod(out.shape[2:])) * int(np.prod(layer.weight.shape)))

    hooks = []
    for name, layer in model.named_sublayers():
        if name.startswith(auxiliary):
            continue
        if isinstance(layer, paddle.nn.Conv2D):
            hooks.append(layer.register_forward_post_hook(conv))
        elif isinstance(layer, paddle.nn.Linear):
            hooks.append(layer.register_forward_post_hook(lambda layer, args, out: macs.append(int(layer.weight.size))))
    with paddle.no_grad():
        model(paddle.to_tensor(x))
    for hook in hooks:
        hook.remove()
    return sum(int(p.size) for p in model.parameters() if not p.stop_gradient), sum(macs)


def photograph(size):
    """The input that PaddleClas's evaluation makes of a photograph, [1, 3, size, size]."""
    from paddleclas.deploy.python import preprocess as op  # the wheel's copy of ppcls/data/preprocess/ops/operators.py

    short = 256 if size == 224 else 320
    with open(os.path.join(HERE, "../images/ILSVRC2012_val_00000010.jpeg"), "rb") as file:
        x = file.read()
    for step in (op.DecodeImage(to_rgb=True, channel_first=False), op.ResizeImage(resize_short=short), op.CropImage(size=size),
                 op.NormalizeImage(scale="1.0/255.0", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], order="hwc"),
                 op.ToCHWImage()):
        x = step(x)
    return x[None].astype(np.float32)


def floats(a):
    """Decimal digits that give the same f32 back."""
    return [float(np.format_float_positional(v, unique=True)) if abs(v) > 1e-4 else float(str(v)) for v in np.asarray(a, np.float32).ravel()]


def write(name):
    import paddle

    stem, _, stride = name.partition("@")
    model = build(stem, int(stride or 32))
    state = model.state_dict()
    keys = [(k, list(v.shape)) for k, v in state.items()]
    model.set_state_dict({k: paddle.to_tensor(tensor(k, shape)) for k, shape in keys})
    model.eval()
    size = 224 if stem == "GoogLeNet" else 299
    x = images(3, size)
    (logits, *auxiliary), stages = run(model, x, STAGES[stem])
    (single, *_), _ = run(model, x[:1])
    assert np.abs(single - logits[:1]).max() < 1e-5 * np.abs(logits).max(), "batch 1 and 3 agree in the reference"
    spread = np.abs(logits[0] - logits[1]).max() / np.abs(logits).max()
    assert spread > 1e-2, f"the logits depend on the image: {spread}"
    golden = {"model": stem, "output_stride": int(stride or 32), "size": size,
              "versions": {"paddlepaddle": paddle.__version__, "paddleclas": "2.6.0", "numpy": np.__version__},
              "stages": stages, "logits": [floats(row) for row in logits],
              "photograph": floats(run(model, photograph(size))[0][0][0])}
    if auxiliary:
        golden["auxiliary"] = [[floats(row) for row in head] for head in auxiliary]
        # The auxiliary heads fit 224 only and would stop the main path: give them the 3x3 map that they want.
        model._pool_o1 = model._pool_o2 = paddle.nn.AdaptiveAvgPool2D(3)
        golden["logits_299"] = [floats(run(model, images(1, 299))[0][0][0])]
    if not stride:
        golden["keys"] = keys
        golden["parameters"], golden["macs"] = count(model, x[:1])
    path = os.path.join(HERE, name + ".json")
    with open(path, "w") as file:
        # One line a top-level entry: small diffs.
        file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "\n}\n")
    top = np.argsort(-logits[0])[:5]
    print(name, "spread", float(spread), "largest", float(np.abs(logits).max()), "top5", top.tolist(), os.path.getsize(path), "bytes")
    for row in stages:
        print("   ", row["name"], row["shape"], "mean %.3g rms %.3g" % (row["mean"], row["norm"] / np.prod(row["shape"]) ** 0.5))


if __name__ == "__main__":
    names = sys.argv[1:] or list(STAGES) + ["Xception41_deeplab@16"]
    if len(names) == 1:
        write(names[0])
    else:
        # Paddle refuses a second network with the same parameter names in one process.
        for name in names:
            subprocess.run([sys.executable, os.path.abspath(__file__), name], check=True)
