"""Agreement of int8 across runtimes: our integers as QDQ ONNX in ONNX Runtime, and ONNX Runtime's integers in ours.

usage: ENV/bin/python bench/int8/exchange.py INCEPTION WORK PICTURES MODEL[=WEIGHTS]...
Each network is quantised by us on the pictures of the folder PICTURES (the first 8; random weights where no file is named), and
written as ONNX. ONNX Runtime runs that on the same pictures, without its optimisations: it computes in f32 what the file says
(its kernels of integers saturate on CPUs without VNNI). Errors are differences of logits, the largest over the largest
logit and root mean squares over that of the logits, from ours in int8; beside them those of ours in int8 from ours in f32.
The last columns are of the same network quantised by ONNX Runtime (QDQ, per channel) and by NNCF (its backend for ONNX, which
writes QDQ, too): their file in ours with --precision int8, from that file in ONNX Runtime. ENV has numpy, pillow and those of
accuracy.py.
"""
import glob
import json
import os
import subprocess
import sys

import numpy as np

from accuracy import onnxruntime_int8


def command(*arguments):
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def logits(program, model, weights, precision, paths):
    out = command(program, "predict", "--model", model, *weights, "--precision", precision, "--json", "--with-logits", "--image", *paths)
    return np.array([json.loads(line)["logits"] for line in out.splitlines()])


def images(program, model, onnx, paths):
    """What our preprocessing makes of the pictures, by the recipe in the file."""
    import onnx as reader
    from PIL import Image

    recipe = json.loads({p.key: p.value for p in reader.load(onnx).metadata_props}["preprocessing"])
    side = recipe["crop"]
    result = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        assert image.size == (side, side), "pictures have to be of the network's size: nothing is resized then"
        pixels = np.asarray(image, np.float32) / 255
        result.append(((pixels - np.array(recipe["mean"], np.float32)) / np.array(recipe["std"], np.float32)).transpose(2, 0, 1))
    return np.stack(result).astype(np.float32)


def errors(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max(), np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())


def resized(paths, folder, side):
    """The pictures made square, in a folder of their own."""
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    made = []
    for i, path in enumerate(paths):
        made.append(f"{folder}/{i:03}.png")
        Image.open(path).convert("RGB").resize((side, side), Image.BICUBIC).save(made[-1])
    return made


def run_onnx(path, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def nncf_onnx(path, calibration, work):
    """NNCF's QDQ ONNX of an ONNX file."""
    import nncf
    import onnx

    model = onnx.load(path)
    images = [{model.graph.input[0].name: image[None]} for image in calibration]
    onnx.save(nncf.quantize(model, nncf.Dataset(images), subset_size=len(images)), f"{work}/nncf.onnx")
    return f"{work}/nncf.onnx"


def main(program, work, pictures, *models):
    os.makedirs(work, exist_ok=True)
    print("| network | ours from f32 | ONNX Runtime from ours | same class | ours from ONNX Runtime, its integers | same class | ours from ONNX Runtime, NNCF's integers | same class |")
    print("|---|---|---|---|---|---|---|---|")
    for named in models:
        model, _, file = named.partition("=")
        weights = ["--weights", file] if file else ["--random-weights"]
        base = f"{work}/{model}"
        side = 224 if model == "GoogLeNet" else 299
        paths = resized(sorted(glob.glob(f"{pictures}/*.png"))[:8], f"{work}/{side}", side)
        flags = ["--resize-short", str(side), "--crop", str(side)]
        command(program, "quantize", "--model", model, *weights, *flags, "--data", f"{work}/{side}", "--to", base + ".safetensors", "--json")
        small = ["--weights", base + ".safetensors"]
        command(program, "convert", "--model", model, "--from", base + ".safetensors", "--precision", "int8", "--to", base + ".onnx")
        x = images(program, model, base + ".onnx", paths)
        exact = logits(program, model, [*weights, *flags], "f32", paths)
        ours = logits(program, model, small, "int8", paths)
        theirs = run_onnx(base + ".onnx", x)
        command(program, "convert", "--model", model, "--from", base + ".safetensors", "--to", base + ".f32.onnx")
        pairs = [(ours, exact), (theirs, ours)]
        for quantise in [onnxruntime_int8, nncf_onnx]:
            qdq = quantise(base + ".f32.onnx", x, work)
            pairs.append((logits(program, model, ["--weights", qdq, *flags], "int8", paths), run_onnx(qdq, x)))
        cells = ["%.2f %%, %.2f %%" % tuple(100 * e for e in errors(*pair)) for pair in pairs]
        same = ["%d of %d" % ((a.argmax(1) == b.argmax(1)).sum(), len(a)) for a, b in pairs]
        print("|", model, "|", cells[0], "|", " | ".join(f"{cell} | {count}" for cell, count in zip(cells[1:], same[1:])), "|", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
