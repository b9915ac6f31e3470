"""What `inception train --freeze head` does, in PyTorch: torchvision's Inception V3 with given weights, a new classifier of one
fully connected layer, Adam at 1e-3 on half a cosine, batches of 64. Prints one JSON object.

usage: ENV/bin/python bench/train/head.py WEIGHTS.safetensors TRAIN TEST --epochs N [--every-epoch] [--seed N] [--threads N]
TRAIN and TEST have a folder for each class. With `--every-epoch` the network sees each picture in each epoch, as a training
loop has it that just sets `requires_grad = False`; without it the features are computed once.
"""
import argparse
import json
import math
import time

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

parser = argparse.ArgumentParser()
parser.add_argument("weights")
parser.add_argument("train")
parser.add_argument("test")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--every-epoch", action="store_true")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(arguments.seed)

start = time.perf_counter()
network = models.inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
state = load_file(arguments.weights)
network.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")}, strict=False)
network.fc = torch.nn.Identity()
network.dropout = torch.nn.Identity()
network = network.eval().to(memory_format=torch.channels_last)
# As the weights ask for: values from -1 to 1. Both sides are equal, so that nothing is cropped.
transform = transforms.Compose([transforms.Resize(299), transforms.CenterCrop(299), transforms.ToTensor(),
                                transforms.Normalize([0.5] * 3, [0.5] * 3)])


@torch.inference_mode()
def features(images):
    return network(images.to(memory_format=torch.channels_last))


def all_features(path):
    # Workers take time from the two threads that compute, and hide the reading.
    loader = DataLoader(datasets.ImageFolder(path, transform), batch_size=32, num_workers=arguments.threads)
    pairs = [(features(images), labels) for images, labels in loader]
    return torch.cat([f for f, _ in pairs]).clone(), torch.cat([l for _, l in pairs])


folder = datasets.ImageFolder(arguments.train, transform)
head = torch.nn.Linear(2048, len(folder.classes))
# Features of mean 0 and variance 1: those of all pictures where they are kept, otherwise those of a batch.
standardise = torch.nn.BatchNorm1d(2048, affine=False, momentum=None)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
steps = math.ceil(len(folder) / 64) * arguments.epochs
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)


def learn(rows, labels):
    loss = torch.nn.functional.cross_entropy(head(standardise(rows)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


if arguments.every_epoch:
    loader = DataLoader(folder, batch_size=64, shuffle=True, num_workers=arguments.threads)
    for _ in range(arguments.epochs):
        for images, labels in loader:
            learn(features(images).clone(), labels)
else:
    rows, labels = all_features(arguments.train)
    # As `inception train` has it; BatchNorm's own 1e-5 is two hundredths of the mean variance of some networks' features.
    standardise.eps = 1e-3 * rows.var(0).mean().item()
    standardise(rows)
    standardise.eval()
    for _ in range(arguments.epochs):
        for batch in torch.randperm(len(labels)).split(64):
            learn(rows[batch], labels[batch])
seconds = time.perf_counter() - start
rows, labels = all_features(arguments.test)
standardise.eval()
with torch.inference_mode():
    right = (head(standardise(rows)).argmax(1) == labels).sum().item()
print(json.dumps({"seconds": seconds, "training": len(folder), "epochs": arguments.epochs, "test": len(labels),
                  "accuracy": right / len(labels), "torch": torch.__version__}))
