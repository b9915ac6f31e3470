"""Writes a really trained Inception V3 in Keras's own form, and what Keras computes with it on a photograph.

usage: KERAS/bin/python real.py DIR          (npm and node beside it)

The npm package nsfwjs 4.4.0 (MIT) ships one in TensorFlow.js's form, in 8 bits a weight: made with Keras, 299 pixels,
ImageNet's network tuned to five kinds of picture by three fully connected layers. Class 2 is a neutral photograph. The
first of the three layers, 2048 to 256, stands here as the classifier; the other two are applied to its output, and what
comes out for the photographs of tests/images is checked. `cargo xtask parity` compares the 256 values.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "keras-inception_v3"
SCRIPT = """const folder = "./package/dist/models/inception_v3/", m = require(folder + "model.min.js"), o = m.default || m;
const fs = require("fs"); fs.writeFileSync("model.json", typeof o === "string" ? o : JSON.stringify(o));
const parts = []; for (let i = 1; i <= 6; i++) { const s = require(folder + `group1-shard${i}of6.min.js`);
parts.push(Buffer.from(s.default || s, "base64")); } fs.writeFileSync("weights.bin", Buffer.concat(parts));"""


def variables():
    """Values by TensorFlow.js's names, layers counted in the order in which they were made, from 1."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", "nsfwjs@4.4.0"], cwd=folder, check=True, capture_output=True)
        subprocess.run(["tar", "xzf", "nsfwjs-4.4.0.tgz", "package/dist/models/inception_v3"], cwd=folder, check=True)
        subprocess.run(["node", "-e", SCRIPT], cwd=folder, check=True)
        with open(os.path.join(folder, "model.json")) as file:
            specs = json.load(file)["weightsManifest"][0]["weights"]
        raw = np.fromfile(os.path.join(folder, "weights.bin"), np.uint8)
    values, at = {}, 0
    for spec in specs:
        count, scale = int(np.prod(spec["shape"])), spec["quantization"]
        value = raw[at:at + count].astype(np.float64) * scale["scale"] + scale["min"]
        values[spec["name"]] = value.reshape(spec["shape"]).astype(np.float32)
        at += count
    assert at == raw.size, (at, raw.size)
    return values


def main(folder):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    from PIL import Image

    sys.path.insert(0, HERE)
    import full_size

    small = full_size.small()

    values = variables()
    keras.utils.clear_session()
    model = keras.applications.InceptionV3(weights=None, classes=256, classifier_activation=None)
    for layer in model.layers:
        kind, _, number = layer.name.rpartition("_")
        kind, number = (kind, int(number) + 1) if number.isdigit() else (layer.name, 1)
        names = {"conv2d": ["kernel"], "batch_normalization": ["beta", "moving_mean", "moving_variance"]}.get(kind)
        if layer.name == "predictions":
            layer.set_weights([values["dense_1/kernel"], values["dense_1/bias"]])
        elif names:
            layer.set_weights([np.maximum(values[f"{kind}_{number}/{n}"], 0) if n == "moving_variance" else values[f"{kind}_{number}/{n}"] for n in names])

    pictures, images = [], os.path.join(HERE, "../../images")
    for name in sorted(os.listdir(images)):
        if name.endswith(".jpeg"):
            picture = Image.open(os.path.join(images, name)).convert("RGB").resize((299, 299), Image.BILINEAR)
            pictures.append((np.asarray(picture, np.float32) / 127.5 - 1).transpose(2, 0, 1))
    for name, logits in zip(sorted(os.listdir(images)), small.keras_logits(model, np.stack(pictures))):
        hidden = np.maximum(np.maximum(logits, 0) @ values["dense_2/kernel"] + values["dense_2/bias"], 0)
        scores = hidden @ values["dense_3/kernel"] + values["dense_3/bias"]
        print(name, "class", scores.argmax(), np.round(np.exp(scores) / np.exp(scores).sum(), 3))
        assert scores.argmax() == 2, name

    photograph = np.fromfile(os.path.join(folder, "input299.f32"), np.float32).reshape(1, 3, 299, 299)
    small.keras_logits(model, photograph).astype(np.float32).tofile(os.path.join(folder, "keras-real.logits.f32"))
    rows = []
    for suffix, save in ((".h5", model.save), (".keras", model.save), (".weights.h5", model.save_weights)):
        save(os.path.join(folder, "keras-real" + suffix))
        rows.append({"model": NAME, "size": 299, "file": "keras-real" + suffix, "logits": "keras-real.logits.f32",
                     "source": f"keras {keras.__version__}, weights of nsfwjs 4.4.0"})
    with open(os.path.join(folder, "manifest-keras-real.json"), "w") as file:
        json.dump(rows, file, indent=0)


if __name__ == "__main__":
    main(sys.argv[1])
