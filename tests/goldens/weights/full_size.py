"""Writes full-size checkpoints with the real tools, and what those compute with them on a photograph.

usage: RIVALS/bin/python full_size.py torch DIR [MODEL...]    timm and torchvision: .pth, legacy .pth, .safetensors, .onnx twice
       PADDLE/bin/python full_size.py paddle DIR [MODEL...]   PaddleClas: .pdparams, inference.json and .pdmodel pairs
       RIVALS/bin/python full_size.py exports DIR [MODEL...]  torchvision: whole modules, TorchScript, torch.export, ONNX
                                                              with transform_input and softmax, a training loop's file
       P2O/bin/python full_size.py p2o DIR [MODEL...]         paddle2onnx, from the pairs
       KERAS/bin/python full_size.py keras DIR [MODEL...]     Keras: whole .h5, weights alone, .weights.h5, .keras

`cargo xtask parity` runs all four and compares; nothing of this is committed. DIR gets input224.f32 and input299.f32
(the photograph, normalised), NAME.logits.f32, NAME.FORMAT and manifest-*.json lines. Weights and running statistics are
those of the formula in ../generate.py.
"""
import importlib.util
import json
import os
import subprocess
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import generate as formula  # noqa: E402

PADDLE = ["GoogLeNet", "Xception41", "Xception41_deeplab", "Xception65", "Xception65_deeplab", "Xception71", "InceptionV3", "InceptionV4"]


def small():
    spec = importlib.util.spec_from_file_location("small", os.path.join(HERE, "generate.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def photograph(folder, size):
    path = os.path.join(folder, f"input{size}.f32")
    if not os.path.exists(path):
        from PIL import Image

        picture = Image.open(os.path.join(HERE, "../../images/ILSVRC2012_val_00000010.jpeg")).convert("RGB")
        picture = np.asarray(picture.resize((size, size), Image.BILINEAR), np.float32) / 255
        x = (picture - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        np.ascontiguousarray(x.transpose(2, 0, 1)).tofile(path)
    return np.fromfile(path, np.float32).reshape(1, 3, size, size)


def record(folder, kind, rows, logits):
    name = rows[0]["model"]
    np.asarray(logits, np.float32).tofile(os.path.join(folder, name + ".logits.f32"))
    with open(os.path.join(folder, f"manifest-{kind}-{name}.json"), "w") as file:
        json.dump(rows, file, indent=0)
    print(name, [row["file"] for row in rows], flush=True)


def torch_model(folder, name):
    import timm
    import torch
    import torchvision
    from safetensors.torch import save_file

    gw = small()
    model = gw.torch_model(name).eval()
    state = model.state_dict()
    model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(gw.tensor(k, tuple(v.shape)))) if "num_batches" not in k else torch.tensor(7) for k, v in state.items()})
    state = model.state_dict()
    size = 224 if "googlenet" in name else 299
    x = torch.from_numpy(photograph(folder, size))
    with torch.no_grad():
        logits = model(x).numpy()
    versions = f"torch {torch.__version__}, " + (f"timm {timm.__version__}" if name.startswith("timm") else f"torchvision {torchvision.__version__}")
    rows = []
    add = lambda suffix, source: rows.append({"model": name, "size": size, "source": source, "file": name + suffix})
    path = lambda suffix: os.path.join(folder, name + suffix)
    torch.save(state, path(".pth"))
    add(".pth", versions)
    torch.save({"state_dict": {"module." + k: v for k, v in state.items()}}, path(".legacy.pth"), _use_new_zipfile_serialization=False)
    add(".legacy.pth", versions)
    save_file(state, path(".safetensors"))
    add(".safetensors", versions)
    torch.onnx.export(model, (x,), path(".torchscript.onnx"), input_names=["x"], dynamo=False, opset_version=17, dynamic_axes={"x": {0: "n"}})
    add(".torchscript.onnx", versions + ", torch.onnx dynamo=False")
    torch.onnx.export(model, (x,), path(".dynamo.onnx"), input_names=["x"], dynamo=True, external_data=False)
    add(".dynamo.onnx", versions + ", torch.onnx dynamo=True")
    record(folder, "torch", rows, logits)


def export_model(folder, name):
    """torchvision's networks in every other form that PyTorch writes, with `transform_input` and a softmax."""
    import argparse

    import torch
    import torchvision

    gw = small()
    model = getattr(torchvision.models, name.split("-")[1])(init_weights=False, transform_input=True).eval()
    state = model.state_dict()
    model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(gw.tensor(k, tuple(v.shape)))) if "num_batches" not in k else torch.tensor(7) for k, v in state.items()})
    state = model.state_dict()
    size = 224 if "googlenet" in name else 299
    x = torch.from_numpy(photograph(folder, size))
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    rows = []

    def add(suffix, source, logits):
        rows.append({"model": name, "size": size, "source": source, "file": name + suffix, "logits": name + logits})

    path = lambda suffix: os.path.join(folder, name + suffix)
    model.transform_input = False
    with torch.no_grad():
        model(x).numpy().tofile(path(".plain.logits.f32"))
    torch.save(model, path(".module.pth"))
    add(".module.pth", versions + ", torch.save(model)", ".plain.logits.f32")
    double = {k: 2 * v for k, v in state.items()}
    torch.save({"epoch": 1, "state_dict": double, "state_dict_ema": {"module." + k: v for k, v in state.items()}, "args": argparse.Namespace(lr=0.1),
                "best_acc1": torch.tensor(0.5), "optimizer": torch.optim.Adam(model.parameters()).state_dict()}, path(".training.pth"))
    add(".training.pth", versions + ", a training loop's, with an average", ".plain.logits.f32")
    torch.jit.save(torch.jit.trace(model, x), path(".traced.pt"))
    add(".traced.pt", versions + ", torch.jit.trace", ".plain.logits.f32")
    torch.export.save(torch.export.export(model, (x,)), path(".exported.pt2"))
    add(".exported.pt2", versions + ", torch.export", ".plain.logits.f32")
    model.transform_input = True
    with torch.no_grad():
        model(x).numpy().tofile(path(".transformed.logits.f32"))

    class Softmax(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).softmax(1)

    softmax = Softmax().eval()
    torch.onnx.export(softmax, (x,), path(".transformed.torchscript.onnx"), input_names=["x"], dynamo=False, opset_version=17, dynamic_axes={"x": {0: "n"}})
    add(".transformed.torchscript.onnx", versions + ", torch.onnx dynamo=False, transform_input, softmax", ".transformed.logits.f32")
    torch.onnx.export(softmax, (x,), path(".transformed.dynamo.onnx"), input_names=["x"], dynamo=True)
    add(".transformed.dynamo.onnx", versions + ", torch.onnx dynamo=True, external data, transform_input, softmax", ".transformed.logits.f32")
    with open(os.path.join(folder, f"manifest-exports-{name}.json"), "w") as file:
        json.dump(rows, file, indent=0)
    print(name, [row["file"] for row in rows], flush=True)


def paddle_model(folder, name, old):
    if old:
        os.environ["FLAGS_enable_pir_api"] = "0"
    import paddle

    model = formula.build(name)
    state = model.state_dict()
    model.set_state_dict({k: paddle.to_tensor(formula.tensor(k, list(v.shape))) for k, v in state.items()})
    model.eval()
    size = 224 if name == "GoogLeNet" else 299
    x = photograph(folder, size)

    class Main(paddle.nn.Layer):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            y = self.model(x)
            return y[0] if isinstance(y, (list, tuple)) else y

    main = Main(model)
    main.eval()
    versions = f"paddlepaddle {paddle.__version__}, paddleclas 2.6.0"
    with paddle.no_grad():
        logits = main(paddle.to_tensor(x)).numpy()
    rows = []
    add = lambda suffix, source: rows.append({"model": name, "size": size, "source": source, "file": name + suffix})
    if not old:
        for protocol in (4, 2):
            paddle.save(model.state_dict(), os.path.join(folder, f"{name}.protocol{protocol}.pdparams"), protocol=protocol)
            add(f".protocol{protocol}.pdparams", versions)
    static = paddle.jit.to_static(main, input_spec=[paddle.static.InputSpec([None, 3, size, size], "float32")])
    static.eval()
    stem = name + (".old" if old else ".pir")
    paddle.jit.save(static, os.path.join(folder, stem, "inference"))
    add((".old/inference.pdmodel" if old else ".pir/inference.json"), versions)
    if name == "GoogLeNet":
        # As tools/export_model.py exports it unless it is told otherwise (infer_add_softmax).
        class Softmax(paddle.nn.Layer):
            def __init__(self):
                super().__init__()
                self.main = main

            def forward(self, x):
                return paddle.nn.functional.softmax(self.main(x), axis=-1)

        softmax = Softmax()
        softmax.eval()
        static = paddle.jit.to_static(softmax, input_spec=[paddle.static.InputSpec([None, 3, size, size], "float32")])
        static.eval()
        paddle.jit.save(static, os.path.join(folder, stem + ".softmax", "inference"))
        add((".old.softmax/inference.pdmodel" if old else ".pir.softmax/inference.json"), versions + ", with softmax")
    record(folder, "paddle-old" if old else "paddle", rows, logits)


def p2o_model(folder, name):
    from importlib.metadata import version

    out = os.path.join(folder, name + ".p2o.onnx")
    subprocess.run([os.path.join(os.path.dirname(sys.executable), "paddle2onnx"), "--model_dir", os.path.join(folder, name + ".pir"),
                    "--model_filename", "inference.json", "--params_filename", "inference.pdiparams", "--save_file", out,
                    "--opset_version", "13"], check=True, capture_output=True)
    rows = [{"model": name, "size": 224 if name == "GoogLeNet" else 299, "file": name + ".p2o.onnx", "source": f"paddle2onnx {version('paddle2onnx')}"}]
    record(folder, "p2o", rows, np.fromfile(os.path.join(folder, name + ".logits.f32"), np.float32))


def keras_model(folder, name):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    gw = small()
    model, _ = gw.keras_model(name)
    logits = gw.keras_logits(model, photograph(folder, 299))
    versions = f"keras {keras.__version__}, torch {torch.__version__}"
    rows = []
    for suffix, save in ((".h5", model.save), (".keras", model.save), (".weights.h5", model.save_weights),
                         ("_weights.h5", lambda path: gw.keras3_weights(model, path))):
        save(os.path.join(folder, name + suffix))
        rows.append({"model": name, "size": 299, "source": versions, "file": name + suffix})
    record(folder, "keras", rows, logits)


if __name__ == "__main__":
    kind, folder, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.makedirs(folder, exist_ok=True)
    if kind == "torch":
        for name in names or small().TORCH:
            torch_model(folder, name)
    elif kind == "exports":
        for name in names or [name for name in small().TORCH if name.startswith("torchvision")]:
            export_model(folder, name)
    elif kind == "p2o":
        for name in names or PADDLE:
            p2o_model(folder, name)
    elif kind == "keras":
        for name in names or small().KERAS:
            keras_model(folder, name)
    elif kind == "paddle":
        for name in names or PADDLE:
            # Paddle refuses a second network with the same parameter names in one process.
            for old in ("new", "old"):
                subprocess.run([sys.executable, os.path.abspath(__file__), "paddle-" + old, folder, name], check=True)
    else:
        paddle_model(folder, names[0], kind == "paddle-old")
