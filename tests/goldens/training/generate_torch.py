"""Writes NAME.json beside this file: what a few steps of PyTorch's training are from the formula's weights.

usage: RIVALS/bin/python tests/goldens/training/generate_torch.py [NAME...]
in the environment of `../weights/generate.py torch`, whose formula and networks it uses.

As `generate.py`, which says what the fields are, of torchvision's networks: `torch.optim.SGD` with momentum 0.9 and weight decay
1e-4, cross entropy, dropout off. The auxiliary logits of Inception V3 count 0.4, as in PyTorch's tutorial on fine-tuning it
(`finetuning_torchvision_models_tutorial.py`); torchvision's own reference cannot train that network. 299 pixels are the smallest
size that its auxiliary classifier takes. Fully connected weights are summed up as [inputs, outputs].
"""
import importlib.util
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from generate import images  # noqa: E402


def sibling(path):
    """Another script of the name of the first, by its path."""
    spec = importlib.util.spec_from_file_location("of_" + os.path.basename(os.path.dirname(path)), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


training = sibling(os.path.join(HERE, "generate.py"))
goldens = sibling(os.path.join(os.path.dirname(HERE), "weights", "generate.py"))

LABELS = [3, 250, 500, 999]
# Image size, images, learning rate, steps.
SETUPS = {"torchvision-inception_v3": (299, 3, 3e-5, 4)}
AUXILIARY_WEIGHT = 0.4


def train(name, x, steps, rounded=False):
    """Losses, gradients of the first step by key, and all values after it, in the type of `x`."""
    import torch
    import torch.nn.functional as F

    size, count, lr, _ = SETUPS[name]
    model = goldens.torch_model(name, dropout=0.0, transform_input=False)
    dtype = torch.float64 if x.dtype == np.float64 else torch.float32
    state = {k: torch.from_numpy(np.ascontiguousarray(goldens.tensor(k, tuple(v.shape)))) if "num_batches" not in k else v
             for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    model = model.to(dtype).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    labels = torch.tensor(LABELS[:count])
    kept = lambda: [(k, v) for k, v in model.state_dict().items() if "num_batches" not in k]
    losses, gradients, stepped = [], None, None
    for step in range(steps):
        out, auxiliary = model(torch.from_numpy(x))
        heads = [(out, 1.0), (auxiliary, AUXILIARY_WEIGHT)]
        sum(F.cross_entropy(head, labels) * weight for head, weight in heads).backward()
        losses.append(sum(training.definition(head.detach().numpy(), LABELS[:count], 0.0) * weight for head, weight in heads))
        if step == 0:
            gradients = {k: v.grad.numpy().copy() for k, v in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            stepped = {k: v.numpy().copy() for k, v in kept()}
        if rounded:
            with torch.no_grad():
                for _, value in kept():
                    value.copy_(value.to(torch.float32).to(dtype))
    return losses, gradients, stepped


def write(name):
    import torch
    import torchvision

    size, count, lr, steps = SETUPS[name]
    x = images(count, size)
    spread32 = training.spread_of(train(name, x, 1)[1], train(name, np.nextafter(x, np.float32(9)), 1)[1])
    x = x.astype(np.float64)
    losses, gradients, stepped = train(name, x, steps)
    spread = training.spread_of(gradients, train(name, np.nextafter(x, 9), 1)[1])
    others = train(name, x, steps, rounded=True)[0]
    losses_spread = max(abs(a - b) / a for a, b in zip(losses, others))
    ours = lambda values: values.T if values.ndim == 2 else values
    tensors = [[key, training.summary(key, ours(gradients[key])) if key in gradients else None, training.summary(key, ours(value))]
               for key, value in stepped.items()]
    golden = {"model": name, "size": size, "labels": LABELS[:count], "lr": lr, "momentum": 0.9, "weight_decay": 1e-4,
              "label_smoothing": 0.0, "losses": losses, "losses_spread": losses_spread, "spread": spread, "spread32": spread32,
              "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "numpy": np.__version__}}
    path = os.path.join(HERE, name + ".json")
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()))
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in tensors)
        file.write(f',\n"tensors": [\n{rows}\n]\n}}\n')
    norms = [row[1][0] for row in tensors if row[1]]
    print(name, "losses", [round(v, 4) for v in losses], "spread %.1e, in float32 %.1e, of losses %.1e" % (spread, spread32, losses_spread),
          "norms %.2g..%.2g" % (min(norms), max(norms)), os.path.getsize(path), "bytes")


if __name__ == "__main__":
    for name in sys.argv[1:] or list(SETUPS):
        write(name)
