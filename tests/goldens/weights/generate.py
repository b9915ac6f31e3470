"""Writes the goldens of this folder with the real libraries, from the integer formula of ../generate.py.

usage: RIVALS/bin/python tests/goldens/weights/generate.py torch     (torch, torchvision, timm, safetensors)
       RIVALS/bin/python tests/goldens/weights/generate.py torch MODEL...    only timm-pixels.json and these MODEL.json
       (fid-inception_v3 needs pytorch-fid, too)
       PADDLE/bin/python tests/goldens/weights/generate.py paddle    (paddlepaddle)
       P2O/bin/python tests/goldens/weights/generate.py p2o          (paddle2onnx, after paddle)
       KERAS/bin/python tests/goldens/weights/generate.py keras      (keras on torch, h5py)
       KERAS2/bin/python tests/goldens/weights/generate.py keras2    (tensorflow 2.15, whose Keras is 2)
where `environments.sh` makes the environments.

MODEL.json   what timm or torchvision computes for a whole network whose state dict has the formula's values: keys with
             their shapes, parameters without the auxiliary heads, multiply-adds, and the logits of images 0 and 1. A fully connected weight is the formula's [inputs, outputs],
             transposed.
timm-pixels.json  what timm's weights expect of a picture, and the epsilons of its networks.
keras/       files of small networks that Keras 2 and 3 have written, and hdf5.h5, h5py's other forms of a file.
graphs/      one small network with every kind of operation, in every form that carries its operations: what the tests of
             hostile files cut and change, and the fuzz targets start from.
files/       small state dicts in every form that the libraries write. The tensors of all are the same: see `TENSORS`.
"""
import json
import os
import pickle
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import generate as formula  # noqa: E402

FILES = os.path.join(HERE, "files")
# Small, but with every number of dimensions, and one payload whose bytes are above 0x7f, too.
TENSORS = {"conv.weight": (4, 3, 3, 3), "norm.weight": (4,), "norm.bias": (4,), "fc.weight": (6, 5), "fc.bias": (5,)}


def value(key, shape):
    return formula.uniform(key, int(np.prod(shape))).astype(np.float32).reshape(shape)


def tensor(key, shape):
    """The formula's value for a key of PyTorch's."""
    if len(shape) == 2:
        return formula.tensor(key, shape[::-1]).T
    if key.endswith(".running_var"):
        return (1.0 + formula.uniform(key, int(np.prod(shape))) * 0.5).astype(np.float32).reshape(shape)
    if key.endswith(".running_mean"):
        return (formula.uniform(key, int(np.prod(shape))) * 0.15).astype(np.float32).reshape(shape)
    return formula.tensor(key, shape)


def torch_model(name, **kwargs):
    origin, name = name.split("-")
    if origin == "timm":
        import timm

        return timm.create_model(name, **kwargs)
    if origin == "fid":
        sys.path.insert(0, os.path.join(HERE, "../../../bench/fid"))
        import weights

        return weights.network()
    import torchvision

    return getattr(torchvision.models, name)(init_weights=False, **kwargs)


TORCH = ["timm-inception_v3", "timm-inception_v4", "timm-inception_resnet_v2", "timm-xception41", "timm-xception65",
         "timm-xception71", "timm-legacy_xception", "torchvision-inception_v3", "torchvision-googlenet", "fid-inception_v3"]


def torch_goldens(names):
    import timm
    import torch
    import torchvision

    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    for name in names:
        model = torch_model(name).eval()
        state = model.state_dict()
        keys = [(k, list(v.shape)) for k, v in state.items()]
        model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(tensor(k, tuple(s)))) if s or "num_batches" not in k else torch.tensor(0) for k, s in keys})
        size = 224 if "googlenet" in name else 299
        macs = 0

        def count(layer, _, output):
            nonlocal macs
            # Each output value takes one product of each weight of its filter.
            positions = output[0].numel() // layer.weight.shape[0]
            macs += layer.weight.numel() * positions

        with torch.no_grad():
            hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
            model(torch.from_numpy(formula.images(1, size)))
            for hook in hooks:
                hook.remove()
            logits = model(torch.from_numpy(formula.images(2, size))).numpy()
        spread = np.abs(logits[0] - logits[1]).max() / np.abs(logits).max()
        assert spread > 1e-2, spread
        golden = {"model": name, "size": size, "versions": versions,
                  "parameters": sum(p.numel() for k, p in model.named_parameters() if not k.startswith(("Aux", "aux"))), "macs": macs,
                  "logits": [formula.floats(row) for row in logits], "keys": keys}
        with open(os.path.join(HERE, name + ".json"), "w") as file:
            file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "\n}\n")
        print(name, "spread", float(spread), "largest", float(np.abs(logits).max()))


def torch_files():
    import torch
    from safetensors.torch import save_file

    os.makedirs(FILES, exist_ok=True)
    path = lambda name: os.path.join(FILES, name)
    state = {k: torch.from_numpy(value(k, s)) for k, s in TENSORS.items()}
    torch.save(state, path("plain.pth"))
    torch.save(state, path("legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "best": 0.5, "arch": "x", "state_dict": {"module." + k: v for k, v in state.items()},
                "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}},
               path("nested_module.pth"))
    parameters = {k: torch.nn.Parameter(v) for k, v in state.items()}
    torch.save(parameters, path("parameters.pth"))
    # Views of one storage, and other orders of memory.
    whole = torch.cat([v.flatten() for v in state.values()])
    views, at = {}, 0
    for k, v in state.items():
        views[k] = whole[at:at + v.numel()].view(v.shape)
        at += v.numel()
    torch.save(views, path("shared_storage.pth"))
    strided = {k: v.clone() for k, v in state.items()}
    strided["conv.weight"] = strided["conv.weight"].contiguous(memory_format=torch.channels_last)
    strided["fc.weight"] = strided["fc.weight"].t().contiguous().t()
    torch.save(strided, path("strided.pth"))
    for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16), ("f64", torch.float64)):
        cast = {k: v.to(dtype) for k, v in state.items()}
        torch.save(cast, path(name + ".pth"))
        save_file(cast, path(name + ".safetensors"))
    save_file(state, path("plain.safetensors"), metadata={"format": "pt"})
    training_files(state)
    print(sorted(os.listdir(FILES)))


def training_files(state):
    """What training loops and exporters keep around the same tensors."""
    import argparse
    import collections
    import datetime
    import pathlib

    import torch

    path = lambda name: os.path.join(FILES, name)
    # One tensor beside the state dict, as pytorch/examples has it.
    torch.save({"epoch": 3, "arch": "inception_v3", "state_dict": state, "best_acc1": torch.tensor(71.5),
                "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}}}, path("best_acc1.pth"))
    # timm's, with everything that people put into a checkpoint; the average is what timm evaluates.
    twice = {k: 2 * v for k, v in state.items()}
    torch.save({"epoch": 3, "state_dict": twice, "state_dict_ema": state, "loss": torch.tensor(0.5),
                "args": argparse.Namespace(lr=0.1, model="inception_v3", out=pathlib.PurePosixPath("a/b")),
                "counter": collections.Counter("aab"), "set": {1, 2}, "deque": collections.deque([1.0], maxlen=3),
                "default": collections.defaultdict(list, a=[1]), "date": datetime.datetime(2026, 1, 2), "dtype": torch.float16,
                "numpy": {"scalar": np.float64(0.5), "generator": np.random.RandomState(0).get_state()[1]},
                "large": 2**200, "complex": 1j}, path("training.pth"))
    torch.save({"model": {"state_dict": {"Student.backbone." + k: v for k, v in state.items()}}, "step": 7}, path("deep.pth"))
    # Whole modules, whose classes are not looked up; in the old format with their sources.
    module = torch.nn.Module()
    for key, value in state.items():
        layer, field = key.split(".")
        if not hasattr(module, layer):
            module.add_module(layer, torch.nn.Module())
        getattr(module, layer).register_parameter(field, torch.nn.Parameter(value))
    torch.save(module, path("module.pth"))
    torch.save(module, path("module_legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save({"epoch": 1, "model": module, "optimizer": torch.optim.SGD(module.parameters(), 0.1)}, path("nested_whole.pth"))

    class Traced(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, child in module.named_children():
                self.add_module(name, child)

        def forward(self, x):
            x = torch.nn.functional.conv2d(x, self.conv.weight).mean((2, 3)) * self.norm.weight + self.norm.bias
            return x.sum() + self.fc.weight.sum() + self.fc.bias.sum()

    x = torch.zeros(1, 3, 8, 8)
    traced = torch.jit.trace(Traced(), x)
    torch.jit.save(traced, path("traced.pt"))
    torch.export.save(torch.export.export(Traced(), (x,)), path("exported.pt2"))


def timm_pixels():
    """What timm's weights expect of a picture; and that whose weights they are changes nothing in the network."""
    import timm
    import torch

    rows, logits = {}, {}
    names = ("inception_v3", "inception_v3.tf_in1k", "inception_v3.tf_adv_in1k", "inception_v3.gluon_in1k", "inception_v4",
             "inception_resnet_v2", "inception_resnet_v2.tf_ens_adv_in1k", "xception41", "xception65", "xception71",
             "legacy_xception")
    for name in names:
        model = timm.create_model(name).eval()
        config = model.pretrained_cfg
        rows["timm-" + name] = {
            "mean": config["mean"], "std": config["std"], "interpolation": config["interpolation"],
            "crop": config["input_size"][1], "resize_short": int(config["input_size"][1] / config["crop_pct"]),
            "epsilons": sorted({layer.eps for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)})}
        network = name.split(".")[0]
        if any(other.startswith(network + ".") for other in names):
            keys = [(k, tuple(v.shape)) for k, v in model.state_dict().items()]
            model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(tensor(k, s))) if "num_batches" not in k else torch.tensor(0) for k, s in keys})
            with torch.no_grad():
                found = model(torch.from_numpy(formula.images(1, 299)))
            assert torch.equal(logits.setdefault(network, found), found), name
    with open(os.path.join(HERE, "timm-pixels.json"), "w") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items()) + "\n}\n")
    print(rows)


GRAPHS = os.path.join(HERE, "graphs")


def torch_graphs():
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.one, self.two, self.both = (nn.Conv2d(4, out, 1, bias=False) for out in (2, 3, 5))
            self.fc = nn.Linear(5, 2)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 3, 2, ceil_mode=True)
            y = torch.cat([self.one(x), self.two(nn.functional.avg_pool2d(x, 3, 1, 1))], 1) + self.both(x)
            return self.fc(y.mean((2, 3)))

    os.makedirs(GRAPHS, exist_ok=True)
    torch.manual_seed(1)
    model, x = Small().eval(), torch.zeros(1, 3, 16, 16)
    options = {"input_names": ["x"], "external_data": False}
    torch.onnx.export(model, (x,), os.path.join(GRAPHS, "dynamo.onnx"), dynamo=True, **options)
    # In this mode the norm stays an operation.
    torch.onnx.export(model, (x,), os.path.join(GRAPHS, "torchscript.onnx"), dynamo=False, opset_version=17, input_names=["x"],
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, dynamic_axes={"x": {0: "n"}})
    surrounded_graphs(model)
    nncf_graph()
    sharded_files()
    print(sorted(os.listdir(GRAPHS)))


def surrounded_graphs(small):
    """The same network with what exporters and quantisers put around it and into it."""
    import onnx
    import onnxruntime
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = lambda name: os.path.join(GRAPHS, name)

    class Transformed(torch.nn.Module):
        """torchvision's `_transform_input`, and a softmax."""

        def __init__(self):
            super().__init__()
            self.small = small

        def forward(self, x):
            channels = [(0.229, 0.485), (0.224, 0.456), (0.225, 0.406)]
            x = torch.cat([torch.unsqueeze(x[:, i], 1) * (std / 0.5) + (mean - 0.5) / 0.5 for i, (std, mean) in enumerate(channels)], 1)
            return self.small(x).softmax(1)

    class Normalised(torch.nn.Module):
        """Bytes in, the number of a class out."""

        def __init__(self):
            super().__init__()
            self.small = small
            self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

        def forward(self, x):
            return self.small((x / 255 - self.mean) / self.std).argmax(1)

    class Multilabel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.small = small

        def forward(self, x):
            return self.small(x).sigmoid()

    x = torch.zeros(1, 3, 16, 16)
    # The dynamo exporter keeps weights in a file beside the model unless it is told otherwise.
    torch.onnx.export(Transformed().eval(), (x,), path("transformed.onnx"), dynamo=True, input_names=["x"], external_data=True)
    for name, model in (("transformed_torchscript", Transformed()), ("normalised", Normalised()), ("multilabel", Multilabel())):
        torch.onnx.export(model.eval(), (x,), path(name + ".onnx"), dynamo=False, opset_version=17, input_names=["x"])
    plain = path("plain_tmp.onnx")
    torch.onnx.export(small, (x,), plain, dynamo=False, opset_version=17, input_names=["x"])
    onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=True), path("half.onnx"))

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter([{"x": formula.images(1, 16)}])

        def get_next(self):
            return next(self.images, None)

    quantize_static(plain, path("quantised.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
    # Forms that compute with integers: ranges of each image's own, and the operators of QLinear.
    quantize_dynamic(plain, path("quantised_dynamic.onnx"))
    quantize_static(plain, path("quantised_operators.onnx"), Reader(), quant_format=QuantFormat.QOperator, per_channel=True)
    for name, level in (("extended", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED), ("all", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.optimized_model_filepath = level, path(f"optimised_{name}.onnx")
        onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])
    os.remove(plain)


def nncf_graph():
    """A pointwise and a depthwise convolution as NNCF quantises them: each channel between the two has a scale of its own."""
    import nncf
    import onnx
    import torch
    from torch import nn

    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 20, 1), nn.Conv2d(20, 20, 3, groups=20), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 2))
    plain = os.path.join(GRAPHS, "plain_tmp.onnx")
    torch.onnx.export(model.eval(), (torch.zeros(1, 3, 8, 8),), plain, dynamo=False, opset_version=17, input_names=["x"])
    quantised = nncf.quantize(onnx.load(plain), nncf.Dataset([{"x": formula.images(1, 8)}]), subset_size=1)
    onnx.save(quantised, os.path.join(GRAPHS, "quantised_channels.onnx"))
    os.remove(plain)


def sharded_files():
    """A checkpoint in two files and a list, as Hugging Face's libraries write large ones, of both formats."""
    import torch
    from safetensors.numpy import save_file

    folder = os.path.join(HERE, "sharded")
    os.makedirs(folder, exist_ok=True)
    size = 4 * sum(int(np.prod(s)) for s in TENSORS.values())
    for stem, extension in (("model", "safetensors"), ("pytorch_model", "bin")):
        where = {}
        for i, keys in enumerate((["conv.weight", "norm.weight"], ["norm.bias", "fc.weight", "fc.bias"])):
            name = f"{stem}-{i + 1:05}-of-00002.{extension}"
            values = {k: value(k, TENSORS[k]) for k in keys}
            if extension == "bin":
                torch.save({k: torch.from_numpy(v.copy()) for k, v in values.items()}, os.path.join(folder, name))
            else:
                save_file(values, os.path.join(folder, name), metadata={"format": "pt"})
            where.update(dict.fromkeys(keys, name))
        with open(os.path.join(folder, f"{stem}.{extension}.index.json"), "w") as file:
            json.dump({"metadata": {"total_size": size}, "weight_map": where}, file, indent=2)
    # Beside them, as it is no checkpoint that can be read: TorchScript whose tensors have become constants.
    torch.jit.save(torch.jit.freeze(torch.jit.trace(torch.nn.Linear(2, 2).eval(), torch.zeros(1, 2))), os.path.join(HERE, "frozen.pt"))


def paddle_graph(stem):
    import paddle
    from paddle import nn

    def sigmoid(y):
        if stem.startswith("new"):
            return nn.functional.sigmoid(y)
        # Paddle 3.3's own function fails in the older program, whose operation this is.
        from paddle.base.layer_helper import LayerHelper

        helper = LayerHelper("sigmoid")
        out = helper.create_variable_for_type_inference(y.dtype)
        helper.append_op(type="sigmoid", inputs={"X": [y]}, outputs={"Out": [out]})
        return out

    class Small(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2D(3, 4, 3, stride=2, padding=1, bias_attr=False)
            self.norm = nn.BatchNorm2D(4)
            self.one, self.two, self.both = (nn.Conv2D(4, out, 1, bias_attr=False) for out in (2, 3, 5))
            self.drop = nn.Dropout(0.2, mode="downscale_in_infer")
            self.fc = nn.Linear(5, 2)

        def forward(self, x):
            x = nn.functional.max_pool2d(nn.functional.relu(self.norm(self.conv(x))), 3, 2)
            y = paddle.concat([self.one(x), self.two(nn.functional.avg_pool2d(x, 3, 1, 1))], 1) + self.both(x)
            y = nn.functional.adaptive_avg_pool2d(y, 1)
            y = self.fc(self.drop(paddle.flatten(y, 1)))
            # What PaddleClas's tools/export_model.py adds unless it is told otherwise, and for several labels.
            return nn.functional.softmax(y, axis=-1) if "softmax" in stem else sigmoid(y) if "sigmoid" in stem else y

    paddle.seed(1)
    model = Small()
    model.eval()
    static = paddle.jit.to_static(model, input_spec=[paddle.static.InputSpec([None, 3, 16, 16], "float32")])
    static.eval()
    paddle.jit.save(static, os.path.join(GRAPHS, stem))
    if os.path.exists(info := os.path.join(GRAPHS, stem + ".pdiparams.info")):
        os.remove(info)


def p2o_graph():
    import subprocess

    for stem, onnx in (("new", "paddle2onnx"), ("new_softmax", "paddle2onnx_softmax")):
        subprocess.run([os.path.join(os.path.dirname(sys.executable), "paddle2onnx"), "--model_dir", GRAPHS, "--model_filename", stem + ".json",
                        "--params_filename", stem + ".pdiparams", "--save_file", os.path.join(GRAPHS, onnx + ".onnx"), "--opset_version", "13"], check=True)


def paddle_files():
    import inspect

    import paddle
    from paddle.framework import io_utils

    os.makedirs(FILES, exist_ok=True)
    path = lambda name: os.path.join(FILES, name)
    state = {k: paddle.to_tensor(value(k, s)) for k, s in TENSORS.items()}
    layers = paddle.nn.Linear(2, 2)
    adam = paddle.optimizer.Adam(parameters=layers.parameters())
    layers(paddle.ones([1, 2])).sum().backward()
    adam.step()
    for protocol in (2, 3, 4):
        paddle.save(state, path(f"protocol{protocol}.pdparams"), protocol=protocol)
    # What is left when the table of names is dropped, in protocol 5, as somebody's own script would.
    arrays = {k: v.numpy() for k, v in state.items()}
    with open(path("protocol5.pdparams"), "wb") as file:
        pickle.dump(arrays, file, protocol=5)
    column_major = {k: np.asfortranarray(v) for k, v in arrays.items()}
    with open(path("column_major.pdparams"), "wb") as file:
        pickle.dump(column_major, file, protocol=4)
    with open(path("f16.pdparams"), "wb") as file:
        pickle.dump({k: v.astype(np.float16) for k, v in arrays.items()}, file, protocol=4)
    paddle.save({k: v.astype("bfloat16") for k, v in state.items()}, path("bf16.pdparams"))
    paddle.save({"state_dict": state, "epoch": 3, "optimizer": adam.state_dict()}, path("nested.pdparams"))
    # With the optimiser's state beside the parameters, as old training loops did.
    both = dict(state)
    both.update({"fc.weight_moment1_0": paddle.zeros([6, 5]), "LR_Scheduler": {"last_epoch": 3, "last_lr": 0.1}})
    paddle.save(both, path("with_optimizer.pdparams"))
    # Arrays of over 1 GB are cut: the same source with a smaller limit, of 32 bytes.
    source = inspect.getsource(io_utils._unpack_saved_dict)
    changed = source.replace("2**30 - 1", "2**5 - 1")
    assert changed != source
    exec(changed, io_utils.__dict__)
    from paddle.framework import io
    io._unpack_saved_dict = io_utils._unpack_saved_dict
    paddle.save(state, path("chunked.pdparams"), protocol=2)
    paddle.save(state, path("chunked3.pdparams"), protocol=3)
    print(sorted(os.listdir(FILES)))


# Keras's layers by class, and the variables of each class with the formula's keys' last part.
KERAS = {"keras-inception_v3": "InceptionV3", "keras-xception": "Xception", "keras-inception_resnet_v2": "InceptionResNetV2"}
KERAS_CLASSES = {"Conv2D": "conv2d", "SeparableConv2D": "separable_conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}


def keras_variables(model):
    """(key, variable) in the order of `Model.layers`; keys as Keras 3 numbers layers in `.weights.h5`."""
    counts = {}
    for layer in model.layers:
        kind = KERAS_CLASSES.get(type(layer).__name__)
        if kind and layer.weights:
            n = counts[kind] = counts.get(kind, -1) + 1
            for variable in layer.weights:
                yield (f"{kind}_{n}" if n else kind) + "/" + variable.name.split("/")[-1].split(":")[0], variable


def keras_value(key, shape):
    """The formula's value of our tensor, in Keras's order of dimensions."""
    u = lambda count: formula.uniform(key, count)
    if len(shape) == 4:
        h, w, i, o = shape
        ours = (i, o, h, w) if key.endswith("depthwise_kernel") else (o, i, h, w)
        scale = np.sqrt((3.0 if ours[1] == 1 else 6.0) / (ours[1] * h * w))
        value = (u(int(np.prod(shape))) * scale).astype(np.float32).reshape(ours)
        return np.ascontiguousarray(value.transpose((2, 3, 0, 1) if key.endswith("depthwise_kernel") else (2, 3, 1, 0)))
    if len(shape) == 2:
        return (u(int(np.prod(shape))) * np.sqrt(3.0 / shape[0])).astype(np.float32).reshape(shape)
    if key.endswith("moving_variance"):
        return (1.0 + u(shape[0]) * 0.5).astype(np.float32)
    if key.endswith(("bias", "beta", "moving_mean")):
        return (u(shape[0]) * 0.15).astype(np.float32)
    return (0.9 + u(shape[0]) * 0.2).astype(np.float32)


def keras_model(name, **kwargs):
    import keras

    keras.utils.clear_session()
    model = getattr(keras.applications, KERAS[name])(weights=None, classifier_activation=None, **kwargs)
    keys = [(key, [int(d) for d in variable.shape]) for key, variable in keras_variables(model)]
    for key, variable in keras_variables(model):
        variable.assign(keras_value(key, [int(d) for d in variable.shape]))
    return model, keys


def keras_logits(model, images):
    import torch

    with torch.no_grad():
        return model(images.transpose(0, 2, 3, 1), training=False).detach().cpu().numpy()


def keras_goldens(names):
    import keras
    import torch

    versions = {"keras": keras.__version__, "torch": torch.__version__}
    for name in names:
        model, keys = keras_model(name)
        # In single precision throughout; from the shapes of the outputs.
        macs = 0
        for layer in model.layers:
            positions = int(np.prod(layer.output.shape[1:-1])) if type(layer).__name__ != "Dense" else 1
            for variable in layer.weights:
                if variable.name.endswith("kernel"):
                    macs += int(np.prod(variable.shape)) * positions
        logits = keras_logits(model, formula.images(2, 299))
        spread = np.abs(logits[0] - logits[1]).max() / np.abs(logits).max()
        assert spread > 1e-2, spread
        golden = {"model": name, "size": 299, "versions": versions,
                  "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables), "macs": macs,
                  "logits": [formula.floats(row) for row in logits], "keys": keys}
        with open(os.path.join(HERE, name + ".json"), "w") as file:
            file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "\n}\n")
        print(name, "spread", float(spread), "largest", float(np.abs(logits).max()))


KERAS_FILES = os.path.join(HERE, "keras")


def keras_small(keras, nested):
    """Every kind of layer with weights, a name, and numbers that do not start at 0; by itself or in a model with a new head."""
    layers = keras.layers
    layers.Conv2D(1, 1), layers.BatchNormalization()  # take the first names
    x = start = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(scale=False)(layers.Conv2D(4, (3, 2), use_bias=False)(x))
    x = layers.BatchNormalization(name="block2_sepconv1_bn")(layers.SeparableConv2D(5, 3, use_bias=False, name="block2_sepconv1")(x))
    x = layers.add([layers.Conv2D(5, 1)(x), layers.Conv2D(5, 1, use_bias=False)(x)])
    x = layers.GlobalAveragePooling2D()(x)
    if nested:
        model = keras.Sequential([keras.Model(start, x, name="base"), layers.Dropout(0.2), layers.Dense(2)])
        model.build((None, 8, 8, 3))
    else:
        model = keras.Model(start, layers.Dense(2, name="predictions", activation="softmax")(x))
    base = model.layers[0] if nested else model
    values = list(keras_variables(base)) + (list(keras_variables(model)) if nested else [])
    for key, variable in values:
        variable.assign(keras_value(key, [int(d) for d in variable.shape]))
    model.compile("adam", "mse")
    model.fit(np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 2), np.float32), verbose=0)
    for key, variable in values:
        variable.assign(keras_value(key, [int(d) for d in variable.shape]))
    return model


def keras_files(keras, label):
    os.makedirs(KERAS_FILES, exist_ok=True)
    path = lambda name: os.path.join(KERAS_FILES, f"{label}_{name}")
    for nested in (False, True):
        keras.backend.clear_session()
        model, form = keras_small(keras, nested), "nested" if nested else "flat"
        model.save(path(form + ".keras"))
        if label == "keras3" and nested:
            continue  # The others are to be had without it.
        model.save(path(form + "_whole.h5"))
        if not nested:
            model.save_weights(path(form + ".weights.h5"))
            model.save_weights(path(form + "_weights.h5")) if label == "keras2" else keras3_weights(model, path(form + "_weights.h5"))
    print(sorted(os.listdir(KERAS_FILES)))


def keras3_weights(model, path):
    """As Keras 3 has them in a whole `.h5`, and reads them alone; with names of fixed length, as older h5py wrote them."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)

        def fixed(name, group):
            for key in ("layer_names", "weight_names"):
                if key in group.attrs and len(group.attrs[key]):
                    group.attrs[key] = np.array([n if isinstance(n, bytes) else n.encode() for n in group.attrs[key]], "S")

        fixed("", file)
        file.visititems(fixed)


def hdf5_files():
    """The same tensors as in files/, as variables of Keras's layout, in forms that h5py writes when told to."""
    import h5py

    shapes = {"layers/conv2d/vars/0": (3, 3, 3, 4), "layers/dense/vars/0": (6, 5), "layers/dense/vars/1": (5,)}
    for name, kwargs, options in (("latest", {"libver": "latest"}, {}), ("compressed", {}, {"compression": "gzip", "shuffle": True}),
                                  ("f16", {}, {"dtype": "f2"}), ("f64", {}, {"dtype": "f8"}), ("big_endian", {}, {"dtype": ">f4"}),
                                  ("v110", {"libver": ("v110", "v110")}, {})):
        with h5py.File(os.path.join(KERAS_FILES, f"hdf5_{name}.h5"), "w", **kwargs) as file:
            for key, shape in shapes.items():
                layer, variable = key.split("/")[1], {"0": "kernel", "1": "bias"}[key[-1]]
                file.create_dataset(key, data=keras_value(f"{layer}/{variable}", shape), **options)


if __name__ == "__main__":
    if sys.argv[1] == "keras":
        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        if not sys.argv[2:]:
            keras_files(keras, "keras3")
            hdf5_files()
        keras_goldens(sys.argv[2:] or list(KERAS))
    elif sys.argv[1] == "keras2":
        import tensorflow as tf

        keras_files(tf.keras, "keras2")
    elif sys.argv[1] == "torch":
        if not sys.argv[2:]:
            torch_files()
            torch_graphs()
        timm_pixels()
        torch_goldens(sys.argv[2:] or TORCH)
    elif sys.argv[1] == "paddle-graph":
        paddle_graph(sys.argv[2])
    elif sys.argv[1] == "p2o":
        p2o_graph()
    else:
        import subprocess

        paddle_files()
        # Each in a process of its own: the flag that chooses the program's format is read at the start.
        for stem, flag in (("new", "1"), ("old", "0"), ("new_softmax", "1"), ("old_softmax", "0"), ("new_sigmoid", "1"), ("old_sigmoid", "0")):
            subprocess.run([sys.executable, os.path.abspath(__file__), "paddle-graph", stem], check=True, env={**os.environ, "FLAGS_enable_pir_api": flag})
