"""Accuracy in int8 on a really trained Inception V3: ours beside ONNX Runtime's and NNCF's, calibrated on the same pictures.

usage: ENV/bin/python bench/int8/accuracy.py INCEPTION REAL WORK [FASHION]
INCEPTION is our program. REAL is a folder with real_v3.safetensors and real_v3_head.npz: the network of the npm package nsfwjs
4.4.0 (MIT), an Inception V3 fine-tuned on five kinds of pictures, with torchvision's names; its head goes on after `fc` with two
layers more. WORK gets the pictures and the files. FASHION is a folder with train/CLASS/*.png and test/CLASS/*.png (Fashion-MNIST,
Debian's dataset-fashion-mnist). ENV has numpy, pillow, scikit-image, scikit-learn, onnx, onnxruntime, openvino and nncf.

Pictures are 299x299. Photographs come from scikit-image and scikit-learn, drawings from the icon themes of this machine. A source is
either for calibration or for the test; a large photograph gives several crops.
"""
import glob
import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image

SIDE = 299
MODEL = "torchvision-inception_v3"
RECIPE = ["--preprocess", "keras", "--resize-short", str(SIDE), "--crop", str(SIDE)]


def photographs():
    import skimage
    import sklearn

    folders = [os.path.join(os.path.dirname(skimage.__file__), "data"), os.path.join(os.path.dirname(sklearn.__file__), "datasets", "images")]
    paths = sorted(path for folder in folders for path in glob.glob(folder + "/*") if path.endswith((".png", ".jpg")))
    return [path for path in paths if min(Image.open(path).size) >= 100]


def crops(path, count, rng):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    for _ in range(count):
        side = int(min(width, height) * rng.uniform(0.4, 1.0))
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        yield image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.BICUBIC)


def drawing(path):
    image = Image.open(path).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    return page.convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)


def make_pictures(work, fashion):
    """Folders `calibration` and `test` of WORK; how many of each kind there are."""
    rng = np.random.default_rng(0)
    order = lambda items: [items[i] for i in rng.permutation(len(items))]
    icons = {}
    for path in sorted(glob.glob("/usr/share/icons/*/*/**/*.png", recursive=True)):
        if os.path.getsize(path) > 400 and min(Image.open(path).size) >= 24 and not os.path.islink(path):
            icons.setdefault(os.path.basename(path), path)
    photos, drawings = order(photographs()), order(list(icons.values()))
    counts = {}
    for at, (name, kinds) in enumerate({"calibration": (104, 100, 96), "test": (156, 130, 114)}.items()):
        os.makedirs(f"{work}/{name}", exist_ok=True)
        own, per = photos[at::2], -(-kinds[0] // len(photos[at::2]))
        photos_made = [crop for path in own for crop in crops(path, per, rng)][: kinds[0]]
        drawn = [drawing(path) for path in drawings[at::2][: kinds[1]]]
        worn = [] if fashion is None else order(sorted(glob.glob(f"{fashion}/{['train', 'test'][at]}/*/*.png")))[: kinds[2]]
        worn = [Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC) for path in worn]
        for index, image in enumerate([*photos_made, *drawn, *worn]):
            image.save(f"{work}/{name}/{index:04}.png")
        counts[name] = {"photographs": len(photos_made), "of": len(own), "drawings": len(drawn), "fashion": len(worn)}
    return counts


def load(folder):
    paths = sorted(glob.glob(f"{folder}/*.png"))
    pixels = np.stack([np.asarray(Image.open(path), np.float32) for path in paths])
    return paths, ((pixels / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)


def ours(program, weights, precision, paths):
    command = [program, "predict", "--model", MODEL, "--weights", weights, "--precision", precision, *RECIPE, "--json", "--with-logits"]
    out = subprocess.run([*command, "--image", *paths], check=True, capture_output=True, text=True).stdout
    return np.array([json.loads(line)["logits"] for line in out.splitlines()])


def onnxruntime_int8(path, calibration, work):
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter(calibration)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"images": image[None]}

    quant_pre_process(path, f"{work}/prepared.onnx")
    out = f"{work}/onnxruntime.onnx"
    quantize_static(
        f"{work}/prepared.onnx", out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
    )
    return out


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])


def nncf_int8(path, calibration, work):
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    quantized = nncf.quantize(model, nncf.Dataset([image[None] for image in calibration]), subset_size=len(calibration))
    openvino.save_model(quantized, f"{work}/nncf.xml", compress_to_fp16=False)
    return f"{work}/nncf.xml"


def run_openvino(path, images):
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled([image[None]])[0] for image in images])


def main(program, real, work, fashion=None):
    os.makedirs(work, exist_ok=True)
    counts = make_pictures(work, fashion)
    head = np.load(f"{real}/real_v3_head.npz")
    weights = f"{real}/real_v3.safetensors"
    _, calibration = load(f"{work}/calibration")
    paths, test = load(f"{work}/test")

    def answers(features):
        x = np.maximum(features, 0)
        return np.maximum(x @ head["k2"] + head["b2"], 0) @ head["k3"] + head["b3"]

    onnx = f"{work}/f32.onnx"
    subprocess.run([program, "convert", "--model", MODEL, "--from", weights, "--to", onnx], check=True, capture_output=True)
    results = {}
    for ranges in ["least-squares", "min-max", "percentile:0.9999"]:
        file = f"{work}/{ranges.split(':')[0]}.safetensors"
        command = [program, "quantize", "--model", MODEL, "--weights", weights, "--data", f"{work}/calibration", "--to", file]
        subprocess.run([*command, "--ranges", ranges, *RECIPE, "--json"], check=True, capture_output=True)
        results[f"ours, {ranges}"] = (ours(program, file, "int8", paths), os.path.getsize(file))
    wanted = ours(program, weights, "f32", paths)
    check = run_onnx(onnx, test[:8])
    assert np.abs(check - wanted[:8]).max() < 1e-3 * np.abs(wanted).max(), "the ONNX file is not the same network"
    file = onnxruntime_int8(onnx, calibration, work)
    results["ONNX Runtime, QDQ per channel, min-max"] = (run_onnx(file, test), os.path.getsize(file))
    file = nncf_int8(onnx, calibration, work)
    results["OpenVINO, NNCF"] = (run_openvino(file, test), os.path.getsize(file) + os.path.getsize(file[:-3] + "bin"))

    print(json.dumps({"pictures": counts, "f32 bytes": os.path.getsize(weights), "classes in f32": np.bincount(answers(wanted).argmax(1), minlength=5).tolist()}))
    print("| int8 | same class | of 256 features: largest error | root mean square | of 5 logits: largest error | root mean square | MB |")
    print("|---|---|---|---|---|---|---|")
    exact = answers(wanted)
    for name, (features, size) in results.items():
        found = answers(features)
        same = (found.argmax(1) == exact.argmax(1)).mean()
        cells = []
        for a, b in [(features, wanted), (found, exact)]:
            cells += [np.abs(a - b).max() / np.abs(b).max(), np.sqrt(((a - b) ** 2).mean() / (b**2).mean())]
        print(f"| {name} | {same:.2%} | {cells[0]:.2%} | {cells[1]:.2%} | {cells[2]:.2%} | {cells[3]:.2%} | {size / 1e6:.1f} |")
        wrong = np.flatnonzero(found.argmax(1) != exact.argmax(1))
        for index in wrong:
            top = np.sort(np.exp(exact[index] - exact[index].max()))[::-1]
            top /= top.sum()
            print(f"  {os.path.basename(paths[index])}: the first two classes of f32 have {top[0]:.1%} and {top[1]:.1%}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
