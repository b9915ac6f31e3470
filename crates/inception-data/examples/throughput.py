"""Milliseconds a picture from the bytes of a JPEG to the input of a network: this crate, OpenCV, Pillow, torchvision.

    python crates/inception-data/examples/throughput.py THREADS [ROUNDS]

Every library decodes, resizes the short side to 320, crops 299 and normalises to float [3, 299, 299], from bytes in
memory, on as many threads as said; they take turns, five times unless said otherwise, and the median is printed. `cv2`
runs PaddleClas's own operators. The files are the two photographs of `tests/images` (500 x 375, JPEG 4:4:4), as they are and encoded anew as 4:2:0.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PADDLE = os.environ.get("PADDLE_PYTHON", "/work/peers/paddle/bin/python")
RIVALS = os.environ.get("RIVALS_PYTHON", "/work/peers/rivals/bin/python")
SECONDS = 1.0
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def library(name):
    if name == "cv2":
        import cv2
        import numpy as np
        from paddleclas.deploy.python import preprocess as op

        cv2.setNumThreads(1)
        steps = [op.DecodeImage(to_rgb=True), op.ResizeImage(resize_short=320), op.CropImage(size=299),
                 op.NormalizeImage(scale="1.0/255.0", mean=MEAN, std=STD, order=""), op.ToCHWImage(), np.ascontiguousarray]

        def run(data):
            for step in steps:
                data = step(data)
            return data

        return run

    import io

    import numpy as np
    import torch
    from PIL import Image
    from torchvision import io as vision_io
    from torchvision import transforms as t
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    name, _, filter = name.partition(", ")
    pil = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[filter]
    interpolation = t.InterpolationMode(filter)
    if name == "pillow":
        mean, std = np.float32(MEAN), np.float32(STD)

        def run(data):
            image = Image.open(io.BytesIO(data)).convert("RGB")
            w, h = image.size
            scale = 320 / min(w, h)
            image = image.resize((round(w * scale), round(h * scale)), pil)
            left, top = (image.width - 299) // 2, (image.height - 299) // 2
            image = np.asarray(image.crop((left, top, left + 299, top + 299)), np.float32)
            return np.ascontiguousarray(((image / np.float32(255) - mean) / std).transpose(2, 0, 1))

        return run
    if name == "torchvision":
        steps = t.Compose([t.Resize(320, interpolation), t.CenterCrop(299), t.ToTensor(), t.Normalize(MEAN, STD)])
        return lambda data: steps(Image.open(io.BytesIO(data)).convert("RGB"))
    # torchvision's own decoder and its transforms of tensors.
    steps = v2.Compose([v2.Resize(320, interpolation, antialias=True), v2.CenterCrop(299), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    return lambda data: steps(vision_io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)))


def measure(name, threads, seconds, files):
    import itertools
    import time
    from concurrent.futures import ThreadPoolExecutor

    run = library(name)
    data = [Path(file).read_bytes() for file in files]
    assert np_shape(run(data[0])) == (3, 299, 299)
    turn = itertools.count()

    def work(until):
        count = 0
        while time.perf_counter() < until:
            run(data[next(turn) % len(data)])
            count += 1
        return count

    work(time.perf_counter() + seconds / 5)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(work, [start + seconds] * threads))
    print(f"{(time.perf_counter() - start) * 1000 / count:.4f}")


def np_shape(array):
    return tuple(array.shape)


def main(threads, rounds):
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "inception-data", "--example", "throughput"], cwd=ROOT, check=True)
    ours = str(ROOT / "target/release/examples/throughput")
    this = str(Path(__file__).resolve())
    with tempfile.TemporaryDirectory() as folder:
        photos = sorted((ROOT / "tests/images").glob("*.jpeg"))
        code = "import sys; from PIL import Image; [Image.open(p).save(f'{sys.argv[1]}/{i}.jpg', quality=90, subsampling=2) for i, p in enumerate(sys.argv[2:])]"
        subprocess.run([RIVALS, "-c", code, folder, *map(str, photos)], check=True)
        sets = {"4:4:4, as they are": list(map(str, photos)), "4:2:0, quality 90": sorted(map(str, Path(folder).glob("*.jpg")))}
        for title, files in sets.items():
            commands = {f"this crate, {r}": [ours, r, threads, str(SECONDS), *files] for r in ("cv2-bilinear", "pil-bilinear", "pil-bicubic")}
            rivals = [f"{name}, {filter}" for filter in ("bilinear", "bicubic") for name in ("pillow", "torchvision", "torchvision-tensors")]
            for name, python in [("cv2", PADDLE), *((name, RIVALS) for name in rivals)]:
                commands[name] = [python, this, name, threads, str(SECONDS), *files]
            times = {name: [] for name in commands}
            for _ in range(rounds):
                for name, command in commands.items():
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    times[name].append(float(out.split()[-1]))
            print(f"{title}, {threads} threads: ms a picture, median (least to most) of {rounds}")
            for name, values in times.items():
                print(f"  {name:28} {statistics.median(values):7.3f} ({min(values):.3f} to {max(values):.3f})", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    else:
        threads, rounds = [*sys.argv[1:], *["1", "5"][len(sys.argv) - 1 :]]
        main(threads, int(rounds))
