"""Compares `inception fid` with the four tools on the same pictures and weights, and prints the tables of docs/fid.md.

usage: ENV/bin/python bench/fid/compare.py PROGRAM WEIGHTS A B TOOLS.json NPY
PROGRAM is the program `inception`; TOOLS.json and NPY are what tools.py wrote for WEIGHTS, A and B with --seed 2020 and --npy NPY.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import weights as own


def rows(path):
    """The features of a state of the program."""
    data = open(path, "rb").read()
    at = data.index(b"\n") + 1
    parts = []
    while at < len(data):
        json_len, values = np.frombuffer(data, "<u4", 2, at)
        parts.append(np.frombuffer(data, "<f4", values // 4, at + 8 + json_len))
        at += 16 + int(json_len) + int(values)
    return np.concatenate(parts).reshape(-1, 2048)


def main(program, weights, a, b, tools, npy):
    tools = json.load(open(tools))
    table = {}
    for name, theirs in tools.items():
        with tempfile.TemporaryDirectory() as state:
            command = [program, "fid", a, b, "--protocol", name, "--weights", os.path.join(weights, own.NAME), "--seed", "2020",
                       "--resume", state, "--json", "--kid-size", str(theirs.get("kid_size", 1000))]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            worst = {}
            for number, (side, folder) in enumerate(zip("ab", (a, b)), 1):
                reference = np.load(os.path.join(npy, f"{name}-{side}.npy"))
                off = np.abs(rows(os.path.join(state, f"{number}.features")) - reference).max(axis=1) / np.abs(reference).max()
                for picture, value in zip(sorted(os.listdir(folder)), off, strict=True):
                    extension = picture.rsplit(".", 1)[1]
                    if value >= worst.get(extension, (0,))[0]:
                        worst[extension] = (float(value), side + "/" + picture)
        figures = {"fid": (ours["fid"], theirs["fid"])}
        for key in ("kid", "inception_score"):
            if key in theirs:
                figures[key] = (ours[key]["mean"], theirs[key]["mean"])
        for key in ("precision", "recall"):
            if key in theirs:
                figures[key] = (ours[key], theirs[key])
        table[name] = figures
        print(f"{name}: worst feature, of the largest: {max(worst.values())[0]:.1e}; " +
              ", ".join(f"{extension} {value:.1e} ({picture})" for extension, (value, picture) in sorted(worst.items())))
        for key, (found, wanted) in figures.items():
            print(f"  {key:20} {found:.7g}  {wanted:.7g}  off by {abs(found - wanted) / abs(wanted):.1e}")
    base = table["pytorch-fid"]["fid"][0]
    print("\n| protocol | FID | against pytorch-fid |\n|---|---|---|")
    for name, figures in table.items():
        print(f"| {name} | {figures['fid'][0]:.4f} | {100 * (figures['fid'][0] / base - 1):+.2f} % |")


if __name__ == "__main__":
    main(*sys.argv[1:])
