"""Cuts the weights out of full-size files that the real tools have written: what is left is small enough to commit.

usage: RIVALS/bin/python full_size.py torch DIR MODEL...; PADDLE/bin/python full_size.py paddle DIR MODEL...; and p2o
       KERAS/bin/python full_size.py keras DIR
       RIVALS/bin/python skeletons.py DIR [SKELETON...]     (nvidia.pt needs pytorch-fid, too, and is written by itself)

The weights are those of the formula in ../generate.py, which `tests/src/formula.rs` evaluates too. skeletons/NAME.zz is,
behind zlib, a line of JSON and then the bytes that are left of all files of the pair, one after the other:
  model     the row of the table of models
  source    what wrote it, with versions
  files     name, size and SHA-256 of each real file, and its holes, in order
  logits    of image 0 of the formula, where the goldens do not have them
A hole is [offset, key, count, add, scale, rows, form]: `add + scale * uniform(key)`, single precision, `count` numbers;
with `rows`, an array of so many rows, transposed; form "latin1": each byte as the character of that number, in UTF-8;
form "kernel N": a kernel of `rows` outputs and N pixels from [outputs, inputs, pixels] to [pixels, inputs, outputs].

Both of PyTorch's exporters fold batch norms into convolutions. So that the products are known to the bit, the two ONNX
files have a scale and a variance in each channel whose quotient is one: the folded weights are those of the formula; the
folded biases, which are left in, depend on all the rest.
"""
import hashlib
import json
import os
import sys
import warnings
import zlib

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import generate as formula  # noqa: E402

OUT = os.path.join(HERE, "skeletons")
# Skeleton, model, files.
FILES = [
    ("protocol4.pdparams", "Xception41", ["{}.protocol4.pdparams"]),
    ("googlenet.pdparams", "GoogLeNet", ["{}.protocol4.pdparams"]),
    ("deeplab.pdparams", "Xception41_deeplab", ["{}.protocol4.pdparams"]),
    ("v3.pdparams", "InceptionV3", ["{}.protocol4.pdparams"]),
    ("v4.pdparams", "InceptionV4", ["{}.protocol4.pdparams"]),
    ("protocol2.pdparams", "GoogLeNet", ["{}.protocol2.pdparams"]),
    ("json", "GoogLeNet", ["{}.pir/inference.json", "{}.pir/inference.pdiparams"]),
    ("pdmodel", "InceptionV3", ["{}.old/inference.pdmodel", "{}.old/inference.pdiparams"]),
    ("paddle2onnx.onnx", "Xception41_deeplab", ["{}.p2o.onnx"]),
    ("pth", "timm-inception_v3", ["{}.pth"]),
    ("legacy.pth", "torchvision-googlenet", ["{}.legacy.pth"]),
    ("safetensors", "timm-xception41", ["{}.safetensors"]),
    ("keras.h5", "keras-inception_v3", ["{}.h5"]),
    ("keras_weights.h5", "keras-xception", ["{}_weights.h5"]),
    ("weights.h5", "keras-inception_resnet_v2", ["{}.weights.h5"]),
    ("keras", "keras-xception", ["{}.keras"]),
]


def recipe(key, shape, torch):
    """(add, scale, rows) of the formula's value under `key`: as `formula.tensor`, and `tensor` and `keras_value` of
    generate.py have it."""
    if "/" in key and len(shape) == 4:
        height, width, inputs, outputs = shape
        if key.endswith("depthwise_kernel"):
            inputs, outputs = outputs, inputs
        return 0.0, float(np.sqrt((3.0 if inputs == 1 else 6.0) / (inputs * height * width))), outputs
    if len(shape) == 4:
        return 0.0, float(np.sqrt((3.0 if shape[1] == 1 else 6.0) / (shape[1] * shape[2] * shape[3]))), 0
    if len(shape) == 2:
        torch = torch and "/" not in key
        inputs, outputs = shape[::-1] if torch else shape
        return 0.0, float(np.sqrt(3.0 / inputs)), inputs if torch else 0
    if key.endswith(("._variance", ".running_var", "/moving_variance", ".var")):
        return 1.0, 0.5, 0
    if key.endswith((".bias", "._mean", ".running_mean", "/bias", "/beta", "/moving_mean", ".beta", ".mean")):
        return 0.0, 0.15, 0
    return 0.9, 0.2, 0


def cut(data, keys, torch, latin1):
    """The holes in a file, and what is left of it."""
    holes, left = [], []
    for key, shape in keys:
        count = int(np.prod(shape))
        if "num_batches" in key or count == 0:
            continue
        add, scale, rows = recipe(key, shape, torch)
        value = (add + scale * formula.uniform(key, count)).astype(np.float32)
        if "/" in key and rows:
            # What is 1 x 1 or depthwise is a transposed matrix, too.
            form, pixels = f"kernel {shape[0] * shape[1]}", shape[0] * shape[1]
            ours = value.reshape(rows, -1, pixels)
            forms = [(rows, form, ours.transpose(2, 1, 0).tobytes())]
        else:
            forms = [(rows, "plain", value.reshape(rows, -1).T.tobytes() if rows else value.tobytes())]
            if rows:
                forms.append((0, "plain", value.tobytes()))
        if latin1:
            forms = [(rows, "latin1", forms[0][2].decode("latin1").encode())]
        for rows, form, image in forms:
            at = data.find(image)
            if at >= 0:
                holes.append([at, key, count, repr(add), repr(scale), rows, form, len(image)])
                break
        else:
            left.append(key)
    holes.sort()
    rest, at = [], 0
    for hole in holes:
        assert hole[0] >= at
        rest.append(data[at:hole[0]])
        at = hole[0] + hole.pop()
    rest.append(data[at:])
    return holes, b"".join(rest), left


def write(name, model, source, files, keys, torch, logits=None):
    head, body = {"model": model, "source": source, "files": []}, []
    for file in files:
        with open(file, "rb") as f:
            data = f.read()
        holes, rest, left = cut(data, keys, torch, "protocol2" in file) if not file.endswith((".json", ".pdmodel")) else ([], data, [])
        print(" ", os.path.basename(file), len(data), "bytes,", len(holes), "holes,", len(rest), "bytes left,", len(left), "keys not found", left[:3])
        head["files"].append({"name": os.path.basename(file), "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "holes": holes})
        body.append(rest)
    if logits is not None:
        head["logits"] = formula.floats(logits)
    packed = zlib.compress(json.dumps(head).encode() + b"\n" + b"".join(body), 9)
    with open(os.path.join(OUT, name + ".zz"), "wb") as f:
        f.write(packed)
    print(name, len(packed))


def keys_of(model):
    for path in (os.path.join(HERE, model + ".json"), os.path.join(HERE, "..", model + ".json")):
        if os.path.exists(path):
            with open(path) as f:
                return json.load(f)["keys"]


def folded(folder, name, dynamo):
    """Exports a network whose norms fold into weights that are known to the bit."""
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("small", os.path.join(HERE, "generate.py"))
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    model = small.torch_model(name).eval()
    keys = [(k, tuple(v.shape)) for k, v in model.state_dict().items()]
    model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(small.tensor(k, s))) if "num_batches" not in k else torch.tensor(7) for k, s in keys})
    for key, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            # Scale 1/4 to 4; scale / sqrt(variance + epsilon) is one.
            power = np.round(formula.uniform(key + ".power", layer.num_features) * 2.5).clip(-2, 2)
            layer.weight.data = torch.from_numpy((2.0**power).astype(np.float32))
            layer.running_var = torch.from_numpy((4.0**power - layer.eps).astype(np.float32))
    size = 224 if "googlenet" in name else 299
    x = torch.from_numpy(formula.images(1, size))
    with torch.no_grad():
        logits = model(x).numpy()[0]
        other = model(torch.from_numpy(formula.images(2, size))[1:]).numpy()[0]
    assert np.abs(logits - other).max() > 1e-2 * np.abs(logits).max()
    path = os.path.join(folder, name + (".folded.dynamo.onnx" if dynamo else ".folded.onnx"))
    if dynamo:
        torch.onnx.export(model, (x,), path, input_names=["x"], dynamo=True, external_data=False)
    else:
        torch.onnx.export(model, (x,), path, input_names=["x"], dynamo=False, opset_version=17, dynamic_axes={"x": {0: "n"}})
    with open(path, "rb") as f:
        assert b"BatchNormalization" not in f.read(), "the norms are not folded"
    versions = f"torch {torch.__version__}, torch.onnx dynamo={dynamo}"
    skeleton = "dynamo.onnx" if dynamo else "torchscript.onnx"
    write(skeleton, name, versions, [path], [k for k in keys if len(k[1]) in (2, 4) or k[0].endswith(("fc.bias",))], True, logits)


def nvidia(folder):
    """TorchScript with the modules and the tensors of NVIDIA's port of TensorFlow's network, by bench/fid/weights.py. (NVIDIA's own
    file cannot be had from a package registry.)"""
    import torch

    sys.path.insert(0, os.path.join(HERE, "../../../bench/fid"))
    import weights

    whole = weights.Whole(weights.network()).eval().requires_grad_(False)
    keys = [(key, tuple(value.shape)) for key, value in whole.state_dict().items()]
    state = {}
    for key, shape in keys:
        add, scale, rows = recipe(key, shape, True)
        value = (add + scale * formula.uniform(key, int(np.prod(shape)))).astype(np.float32)
        state[key] = torch.from_numpy(np.ascontiguousarray(value.reshape(rows, -1).T if rows else value.reshape(shape)))
    whole.load_state_dict(state)
    logits = whole.output(whole.layers(torch.from_numpy(formula.images(2, 299))).flatten(1)).numpy()
    assert np.abs(logits[0] - logits[1]).max() > 1e-2 * np.abs(logits).max()
    path = os.path.join(folder, "fid-inception_v3.nvidia.pt")
    torch.jit.script(whole).save(path)
    write("nvidia.pt", "fid-inception_v3", f"torch {torch.__version__}, torch.jit.script, NVIDIA's names", [path], keys, True, logits[0])


if __name__ == "__main__":
    folder = sys.argv[1]
    os.makedirs(OUT, exist_ok=True)
    wanted = sys.argv[2:] or [name for name, *_ in FILES] + ["torchscript.onnx", "dynamo.onnx"]
    for name, model, files in FILES:
        if name not in wanted:
            continue
        sources = {}
        for manifest in os.listdir(folder):
            if manifest.startswith("manifest-"):
                with open(os.path.join(folder, manifest)) as f:
                    sources.update({row["file"]: row["source"] for row in json.load(f)})
        files = [file.format(model) for file in files]
        write(name, model, sources[files[0]], [os.path.join(folder, file) for file in files], keys_of(model), "-" in model)
    if "torchscript.onnx" in wanted:
        folded(folder, "torchvision-googlenet", dynamo=False)
    if "dynamo.onnx" in wanted:
        folded(folder, "timm-xception41", dynamo=True)
    if "nvidia.pt" in wanted:
        nvidia(folder)
