"""torchvision's GoogLeNet at 96 pixels from scratch, in `inception train --freeze none` and in PyTorch: the same first weights of
each seed, pictures, SGD with momentum, cosine and batches, dropout of 0.2, no augmentation. Prints a JSON object a run.

usage: ENV/bin/python bench/train/scratch.py INCEPTION DATA [--seeds 0 1 2] [--epochs N] [--batch N] [--lr LR] [--threads N]
           [--sides inception pytorch]
ENV has torch, torchvision and safetensors. DATA has the folders train and test (fashion.py). Batches are drawn by each side.
"""
import argparse
import json
import math
import subprocess
import tempfile
import time

import torch
from safetensors.torch import save_file
from torchvision import datasets, models, transforms

SIDE = 96
parser = argparse.ArgumentParser()
parser.add_argument("inception")
parser.add_argument("data")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--lr", type=float, default=0.004)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--sides", nargs="+", default=["inception", "pytorch"])
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)


def new_network(seed):
    torch.manual_seed(seed)
    return models.googlenet(weights=None, aux_logits=False, transform_input=False, init_weights=True)


def command(*words):
    done = subprocess.run([arguments.inception, *map(str, words), "--model", "torchvision-googlenet", "--threads", str(arguments.threads),
                           "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ours(seed):
    with tempfile.TemporaryDirectory() as folder:
        save_file(new_network(seed).state_dict(), f"{folder}/first.safetensors")
        lines = command("train", "--weights", f"{folder}/first.safetensors", "--data", f"{arguments.data}/train", "--val-share", 0,
                        "--freeze", "none", "--augment", "none", "--crop", SIDE, "--resize-short", SIDE, "--epochs", arguments.epochs,
                        "--batch", arguments.batch, "--lr", arguments.lr, "--warmup", 0, "--seed", seed, "--to", f"{folder}/run")
        [result] = command("eval", "--weights", f"{folder}/run/last.safetensors", "--data", f"{arguments.data}/test")
    return [round(line["loss"], 4) for line in lines if "loss" in line], result["top1"]


def prepared(part):
    transform = transforms.Compose([transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.ToTensor(),
                                    transforms.Normalize([0.5] * 3, [0.5] * 3)])
    pairs = [(transform(image), label) for image, label in datasets.ImageFolder(f"{arguments.data}/{part}")]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def theirs(seed, train, test):
    network = new_network(seed)
    network.fc = torch.nn.Linear(1024, 10)
    network = network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), arguments.lr, momentum=0.9, weight_decay=1e-4)
    steps = math.ceil(len(train[1]) / arguments.batch) * arguments.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    losses = []
    for _ in range(arguments.epochs):
        total = 0.0
        for batch in torch.randperm(len(train[1])).split(arguments.batch):
            images = train[0][batch].to(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(network(images), train[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(round(total / len(train[1]), 4))
    network.eval()
    with torch.inference_mode():
        right = sum((network(images.to(memory_format=torch.channels_last)).argmax(1) == labels).sum().item()
                    for images, labels in zip(test[0].split(100), test[1].split(100)))
    return losses, right / len(test[1])


train, test = prepared("train"), prepared("test")
for seed in arguments.seeds:
    for side, run in (("inception", lambda: ours(seed)), ("pytorch", lambda: theirs(seed, train, test))):
        if side not in arguments.sides:
            continue
        start = time.perf_counter()
        losses, accuracy = run()
        print(json.dumps({"side": side, "seed": seed, "epochs": arguments.epochs, "batch": arguments.batch, "lr": arguments.lr,
                          "training": len(train[1]), "test": len(test[1]), "losses": losses,
                          "accuracy": accuracy, "seconds": round(time.perf_counter() - start), "torch": torch.__version__}), flush=True)
