"""Error of int8 on all networks with weights that nobody trained: calibrated on some pictures, measured on others.

usage: ENV/bin/python bench/int8/errors.py INCEPTION WORK PICTURES MODEL[=WEIGHTS]...
The first 32 pictures of the folder PICTURES (made square, of the network's size) choose the ranges, the next 32 are the test.
Without a file weights are random, of seed 0. Errors of logits are from ours in f32: the largest over the largest logit, and root
mean squares over that of the logits less their mean over the pictures, since logits of such weights differ little between
pictures. "Same class" of 32. Signal to noise is that of the worst depthwise and the worst other convolution, from `quantize`.
"""
import glob
import json
import os
import sys

import numpy as np
from exchange import command, logits, resized


def pictures(folder, work, side):
    paths = sorted(glob.glob(f"{folder}/*.png"))
    calibration, test = f"{work}/calibration-{side}", f"{work}/test-{side}"
    resized(paths[:32], calibration, side)
    return calibration, resized(paths[32:64], test, side)


def main(program, work, folder, *models):
    os.makedirs(work, exist_ok=True)
    print("| network | same class | largest error | root mean square | ...of differences between pictures | worst depthwise, dB | worst convolution, dB |")
    print("|---|---|---|---|---|---|---|")
    for named in models:
        model, _, file = named.partition("=")
        weights = ["--weights", file] if file else ["--random-weights"]
        side = 224 if model == "GoogLeNet" else 299
        calibration, paths = pictures(folder, work, side)
        flags = ["--resize-short", str(side), "--crop", str(side)]
        small = f"{work}/{model}.safetensors"
        report = json.loads(command(program, "quantize", "--model", model, *weights, *flags, "--data", calibration, "--to", small, "--json"))
        exact = logits(program, model, [*weights, *flags], "f32", paths)
        found = logits(program, model, ["--weights", small, *flags], "int8", paths)
        off = found - exact
        spread = exact - exact.mean(0)
        figures = [np.abs(off).max() / np.abs(exact).max(), np.sqrt((off**2).mean() / (exact**2).mean()), np.sqrt((off**2).mean() / (spread**2).mean())]
        worst = {}
        for layer in report["layers"]:
            if layer["op"] in ("conv", "depthwise") and layer["dtype"] == "int8" and layer["snr_db"] is not None:
                worst[layer["op"]] = min(worst.get(layer["op"], 1e9), layer["snr_db"])
        cells = ["%.1f %%" % (100 * f) for f in figures] + ["%.1f" % worst[op] if op in worst else "" for op in ("depthwise", "conv")]
        print(f"| {model} | {(found.argmax(1) == exact.argmax(1)).sum()} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
