"""Writes seeded, calibrated weights in the forms that the FID tools read, because theirs cannot be downloaded everywhere.

usage: ENV/bin/python bench/fid/weights.py DIR PICTURES
ENV has torch, torchvision, pytorch-fid and Pillow. DIR gets
    pt_inception-2015-12-05-6726825d.pth   the state dict of pytorch-fid, torch-fidelity and torchmetrics, by its official name
    inception-2015-12-05.pt                TorchScript with the modules and tensors of NVIDIA's, which clean-fid wraps, of the same weights
Convolutions are drawn from seed 0. Each norm's statistics are those of the 64 first pictures below PICTURES, so that the
spread of activations stays sane through the network and the features of different pictures differ.
"""
import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
import pytorch_fid.inception as tool

NAME = "pt_inception-2015-12-05-6726825d.pth"


def pictures(folder, count):
    files = sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    for path in files[:: max(1, len(files) // count)][:count]:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((299, 299), Image.BILINEAR))
        yield torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) / 127.5 - 1


def network(state=None):
    """pytorch-fid's network; `state` in place of what it downloads."""
    def patched(*_, **__):
        return state
    tool.load_state_dict_from_url = patched
    load = nn.Module.load_state_dict
    if state is None:
        nn.Module.load_state_dict = lambda *_, **__: None
    try:
        return tool.fid_inception_v3()
    finally:
        nn.Module.load_state_dict = load


def calibrated(folder):
    torch.manual_seed(0)
    model = network()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            # TensorFlow's norms have no scale.
            module.weight.data.fill_(1)
            module.bias.data.normal_(0, 0.3)
            module.momentum = None  # cumulative: the statistics of all batches alike
            module.reset_running_stats()
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(0, 0.05)
            module.bias.data.normal_(0, 0.1)
    batch = torch.stack(list(pictures(folder, 64)))
    model.train()
    model.dropout.eval()
    with torch.no_grad():
        for part in batch.split(32):
            model(part)
    return model.eval().requires_grad_(False)


# NVIDIA's names of the parts of a module, in the order of pytorch-fid's, as `key_scheme/nvidia.rs` of inception-weights has them.
A = ["conv", "tower.conv", "tower.conv_1", "tower_1.conv", "tower_1.conv_1", "tower_1.conv_2", "tower_2.conv"]
B = ["conv", "tower.conv", "tower.conv_1", "tower.conv_2"]
C = ["conv", *[f"tower.{c}" for c in ("conv", "conv_1", "conv_2")],
     *[f"tower_1.{c}" for c in ("conv", "conv_1", "conv_2", "conv_3", "conv_4")], "tower_2.conv"]
D = ["tower.conv", "tower.conv_1", "tower_1.conv", "tower_1.conv_1", "tower_1.conv_2", "tower_1.conv_3"]
E = ["conv", "tower_conv", "tower_mixed_conv", "tower_mixed_conv_1", "tower_1_conv", "tower_1_conv_1", "tower_1_mixed_conv",
     "tower_1_mixed_conv_1", "tower_2_conv"]
MODULES = [A, A, A, B, C, C, C, C, D, E, E]
THEIRS = ["Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c"]


class Conv(nn.Module):
    """A convolution with its norm, which has no scale."""

    def __init__(self, block):
        super().__init__()
        scale = block.bn.weight.detach()
        self.stride, self.padding = block.conv.stride, block.conv.padding
        # Exact where the scale is one, as that of TensorFlow's network is.
        self.weight = nn.Parameter(block.conv.weight.detach() * scale[:, None, None, None])
        self.beta = nn.Parameter(block.bn.bias.detach().clone())
        self.mean = nn.Parameter(block.bn.running_mean.detach() * scale)
        self.var = nn.Parameter(block.bn.running_var.detach().clone())

    def forward(self, x):
        x = F.conv2d(x, self.weight, None, self.stride, self.padding)
        return F.relu(F.batch_norm(x, self.mean, self.var, None, self.beta, False, 0.0, 1e-3))


class Towers(nn.Module):
    """Branches of a module, one after the other, concatenated."""

    def __init__(self, parts, pool):
        super().__init__()
        self.has_conv = "conv" in parts
        names = [name for name in ("tower", "tower_1", "tower_2") if any(part.startswith(name + ".") for part in parts)]
        if self.has_conv:
            self.conv = parts["conv"]
        for name in names:
            tower = nn.Sequential()
            if name == "tower_2":
                tower.add_module("pool", pool)
            for part, conv in parts.items():
                if part.startswith(name + "."):
                    tower.add_module(part.split(".")[1], conv)
            setattr(self, name, tower)
        if "tower_2" not in names:
            self.pool = pool


class ModuleA(Towers):
    def forward(self, x):
        return torch.cat([self.conv(x), self.tower(x), self.tower_1(x), self.tower_2(x)], 1)


class ModuleB(Towers):
    def forward(self, x):
        return torch.cat([self.conv(x), self.tower(x), self.pool(x)], 1)


class ModuleD(Towers):
    def forward(self, x):
        return torch.cat([self.tower(x), self.tower_1(x), self.pool(x)], 1)


class ModuleE(nn.Module):
    def __init__(self, parts, pool):
        super().__init__()
        for name, conv in parts.items():
            setattr(self, name, conv)
        self.tower_2_pool = pool

    def forward(self, x):
        a, b = self.tower_conv(x), self.tower_1_conv_1(self.tower_1_conv(x))
        return torch.cat([self.conv(x), self.tower_mixed_conv(a), self.tower_mixed_conv_1(a), self.tower_1_mixed_conv(b),
                          self.tower_1_mixed_conv_1(b), self.tower_2_conv(self.tower_2_pool(x))], 1)


class Whole(nn.Module):
    """As NVIDIA's port: bytes in, resized as TensorFlow 1 does; `layers` take what is resized and scaled."""

    def __init__(self, model):
        super().__init__()
        self.layers = nn.Sequential()
        stem = [model.Conv2d_1a_3x3, model.Conv2d_2a_3x3, model.Conv2d_2b_3x3, model.Conv2d_3b_1x1, model.Conv2d_4a_3x3]
        for index, block in enumerate(stem):
            self.layers.add_module("conv_" * (index > 0) + (str(index) if index else "conv"), Conv(block))
            if index in (2, 4):
                self.layers.add_module(f"pool{index // 4}", nn.MaxPool2d(3, 2))
        for index, (names, theirs) in enumerate(zip(MODULES, THEIRS)):
            blocks = [m for m in getattr(model, theirs).children() if hasattr(m, "conv")]
            parts = dict(zip(names, map(Conv, blocks), strict=True))
            kind = {id(A): ModuleA, id(B): ModuleB, id(C): ModuleA, id(D): ModuleD, id(E): ModuleE}[id(names)]
            average = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
            pool = nn.MaxPool2d(3, 2) if names in (B, D) else nn.MaxPool2d(3, 1, 1) if index == 10 else average
            self.layers.add_module("mixed" + f"_{index}" * (index > 0), kind(parts, pool))
        self.layers.add_module("pool2", nn.AvgPool2d(8))
        self.output = nn.Linear(*model.fc.weight.shape[::-1])
        self.output.load_state_dict(model.fc.state_dict())

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        n, channels, height, width = img.shape
        theta = torch.eye(2, 3)
        theta[0, 2] += theta[0, 0] / width - theta[0, 0] / 299
        theta[1, 2] += theta[1, 1] / height - theta[1, 1] / 299
        grid = F.affine_grid(theta[None].repeat(n, 1, 1), [n, channels, 299, 299], False)
        x = F.grid_sample(img.float(), grid, "bilinear", "border", False)
        features = self.layers((x - 128) / 128).reshape(-1, 2048)
        if return_features:
            return features
        logits = F.linear(features, self.output.weight) if no_output_bias else self.output(features)
        return F.softmax(logits, 1)


def save(model, folder):
    """Both files of a network; its features from normalised pixels."""
    os.makedirs(folder, exist_ok=True)
    torch.save(model.state_dict(), os.path.join(folder, NAME))
    whole = Whole(model).eval().requires_grad_(False)
    torch.jit.script(whole).save(os.path.join(folder, "inception-2015-12-05.pt"))
    return whole.layers


def main(folder, source):
    layers = save(calibrated(source), folder)
    features = layers(torch.stack(list(pictures(source, 16)))).flatten(1).numpy()
    print("features: mean", features.mean(), "largest", features.max(), "spread", features.std(axis=0).mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
