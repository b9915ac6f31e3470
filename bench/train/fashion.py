"""Makes class folders of Fashion-MNIST from Debian's package `dataset-fashion-mnist` (70,000 pictures of 28 x 28, ten classes).

usage: ENV/bin/python bench/train/fashion.py OUT [TRAINING [TEST]]       (ENV has Pillow and numpy; Debian's apt-get and dpkg)
writes OUT/train and OUT/test with a folder for each class and the first TRAINING (5000) and TEST (2000) pictures of the two
parts, as PNG. Both parts are in random order, so that the classes are about equal.
"""
import glob
import gzip
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]


def read(folder, name):
    [path] = glob.glob(f"{folder}/**/{name}*", recursive=True)
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        return np.frombuffer(file.read(), np.uint8)


out = sys.argv[1]
counts = [int(n) for n in sys.argv[2:]] + [5000, 2000][len(sys.argv) - 2:]
with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["apt-get", "download", "-qq", "dataset-fashion-mnist"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    [package] = glob.glob(f"{folder}/*.deb")
    subprocess.run(["dpkg", "-x", package, folder], check=True)
    for part, stem, count in (("train", "train", counts[0]), ("test", "t10k", counts[1])):
        images = read(folder, f"{stem}-images-idx3-ubyte")[16:].reshape(-1, 28, 28)
        labels = read(folder, f"{stem}-labels-idx1-ubyte")[8:]
        for name in CLASSES:
            os.makedirs(f"{out}/{part}/{name}", exist_ok=True)
        for i in range(count):
            Image.fromarray(images[i]).save(f"{out}/{part}/{CLASSES[labels[i]]}/{i:05}.png")
        print(part, count, "pictures, of each class", np.bincount(labels[:count]).tolist())
