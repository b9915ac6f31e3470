"""Writes seeded, calibrated weights in the forms that the FID tools read, because theirs cannot be downloaded everywhere.

usage: ENV/bin/python bench/fid/weights.py DIR PICTURES
ENV has torch, torchvision, pytorch-fid and Pillow. DIR gets
    pt_inception-2015-12-05-6726825d.pth   the state dict of pytorch-fid, torch-fidelity and torchmetrics, by its official name
    inception-2015-12-05.pt                the TorchScript that clean-fid wraps, around the same weights
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
            module.weight.data.uniform_(0.6, 1.4)
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


class Layers(nn.Module):
    """From normalised pixels to features, as `layers` of NVIDIA's TorchScript is."""

    def __init__(self, model):
        super().__init__()
        self.blocks = nn.Sequential(
            model.Conv2d_1a_3x3, model.Conv2d_2a_3x3, model.Conv2d_2b_3x3, nn.MaxPool2d(3, 2),
            model.Conv2d_3b_1x1, model.Conv2d_4a_3x3, nn.MaxPool2d(3, 2),
            model.Mixed_5b, model.Mixed_5c, model.Mixed_5d, model.Mixed_6a, model.Mixed_6b, model.Mixed_6c,
            model.Mixed_6d, model.Mixed_6e, model.Mixed_7a, model.Mixed_7b, model.Mixed_7c,
            nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        return self.blocks(x)


class Whole(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor, return_features: bool = False):
        return self.layers(x)


def save(model, folder):
    """Both files of a network; its features from normalised pixels."""
    os.makedirs(folder, exist_ok=True)
    torch.save(model.state_dict(), os.path.join(folder, NAME))
    layers = torch.jit.trace(Layers(model), torch.zeros(2, 3, 299, 299))
    torch.jit.script(Whole(layers)).save(os.path.join(folder, "inception-2015-12-05.pt"))
    return layers


def main(folder, source):
    layers = save(calibrated(source), folder)
    features = layers(torch.stack(list(pictures(source, 16)))).numpy()
    print("features: mean", features.mean(), "largest", features.max(), "spread", features.std(axis=0).mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
