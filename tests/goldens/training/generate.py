"""Writes NAME.json beside this file: what ten steps of PaddleClas's training are from the formula's weights, and of PyTorch's for
networks of timm and torchvision.

usage: PADDLE/bin/python tests/goldens/training/generate.py [NAME...]        (PaddleClas's networks)
       RIVALS/bin/python tests/goldens/training/generate.py ORIGIN-NAME...   (timm's and torchvision's)
in the environments of `../generate.py` and `../weights/generate.py`, whose formula and networks it uses.

The batch is the first images of the formula, of small size, with the labels `LABELS`. Dropout is off (p = 0), since no two
libraries draw alike. Rates are such that the loss falls and the losses of ten steps are
defined: the formula's Inceptions have gradients with norms of hundreds, and at usual rates their losses are chaotic from the third
step on (`losses_spread`). The loss is `CELoss(epsilon)` of the network's configuration, for GoogLeNet `GoogLeNetLoss`; the
optimiser is Momentum (0.9) with L2 of 1e-4. Running statistics have Paddle's momentum of 0.9.

torchvision's GoogLeNet is without its auxiliary classifiers, as `googlenet(weights=...)` gives it for fine-tuning. The auxiliary
logits of its Inception V3 count 0.4, as in PyTorch's tutorial on fine-tuning it (`finetuning_torchvision_models_tutorial.py`);
torchvision's own reference cannot train that network. 299 pixels are the smallest size that its auxiliary classifier takes, so that
these are four steps. PyTorch's running
variances are its own: of n values in a channel it takes the sum of squares divided by n - 1, Paddle that divided by n.
Tensors of PyTorch's are in our order: a fully connected weight is [inputs, outputs], transposed.

Both compute in float64. In float32 a gradient is defined less well than it is to be compared: rounding decides which side
of its corner a ReLU is on, and which of two pixels a maximum is, and each such choice moves the gradient.

  losses     of ten steps on the same batch, each before its step, from Paddle's logits by the definition: Paddle's softmax on a
             CPU cuts exponents off at -64, which shows in GoogLeNet's first losses, though not in gradients
  losses_spread  the reference's own sensitivity: their largest relative difference when all values are rounded to float32 after
             each step, as a program in single precision keeps them
  tensors    a row for every key: [key, of its gradient (null without one), of its value after the first step]; each is the
             2-norm, the product with the formula's values of "probe KEY", and the first values
  spread     the reference's own sensitivity: the largest relative difference (2-norm) of a gradient between this run and
             the same one on images that differ in the last bit of float64
  spread32   the same of a run in float32, on images that differ in the last bit of float32
"""
import json
import os
import subprocess
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("GOLDENS", os.path.dirname(HERE)))
from generate import build, images, tensor, uniform  # noqa: E402

LABELS = [3, 250, 500, 999]
# Image size, images, learning rate, label smoothing.
SETUPS = {
    "GoogLeNet": (224, 2, 1e-5, 0.0),
    "InceptionV3": (107, 4, 2e-7, 0.1), "InceptionV4": (107, 4, 5e-10, 0.1),
    "Xception41": (96, 4, 0.003, 0.1), "Xception65": (64, 4, 5e-6, 0.1), "Xception71": (64, 2, 0.001, 0.1),
    "Xception41_deeplab": (64, 4, 5e-6, 0.1), "Xception65_deeplab": (64, 4, 1.5e-6, 0.1),
    "timm-xception41": (64, 4, 5e-6, 0.1), "torchvision-googlenet": (64, 4, 3e-6, 0.1), "torchvision-inception_v3": (299, 3, 1e-5, 0.0),
}
# Fewer than ten.
STEPS = {"torchvision-inception_v3": 4}
# Arguments of torchvision's networks.
ARGUMENTS = {"torchvision-googlenet": {"aux_logits": False}, "torchvision-inception_v3": {"transform_input": False}}


def short(value):
    return float(f"{float(value):.8g}")


def summary(values, probe):
    values = np.asarray(values, np.float64).ravel()
    return [short(np.sqrt((values * values).sum())), short((values * probe).sum()), [short(v) for v in values[:3]]]


KEPT = {}


def kept(key, make):
    """What `make` gives for `key`, made once."""
    if key not in KEPT:
        KEPT[key] = make()
    return KEPT[key]


def definition(logits, labels, epsilon):
    """The mean cross entropy with smoothed labels."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = np.full(logits.shape, epsilon / logits.shape[1])
    target[np.arange(len(labels)), labels] += 1.0 - epsilon
    return float(-(target * logs).sum(axis=1).mean())


def train(name, x, steps, rounded=False):
    """Losses, gradients of the first step by key, and all values after it, in the type of `x`."""
    return (train_torch if "-" in name else train_paddle)(name, x, steps, rounded)


def train_torch(name, x, steps, rounded):
    import importlib.util

    import torch
    import torch.nn.functional as F

    spec = importlib.util.spec_from_file_location("weights", os.path.join(os.path.dirname(HERE), "weights/generate.py"))
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    size, count, lr, epsilon = SETUPS[name]
    dtype = torch.from_numpy(x).dtype
    model = weights.torch_model(name, **ARGUMENTS.get(name, {}))
    known = {k: tuple(v.shape) for k, v in model.state_dict().items() if "num_batches" not in k}
    known = {k: torch.from_numpy(kept(k, lambda: np.ascontiguousarray(weights.tensor(k, s)))) for k, s in known.items()}
    model.load_state_dict(known, strict=False)
    model.to(dtype).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=1e-4)
    labels = torch.tensor(LABELS[:count])
    ours = lambda value: (value.T if value.ndim == 2 else value).detach().numpy().copy()

    losses, gradients, stepped = [], None, None
    for step in range(steps):
        out = model(torch.from_numpy(x))
        heads = list(zip(out, [1.0, 0.4])) if isinstance(out, tuple) else [(out, 1.0)]
        optimizer.zero_grad()
        sum(F.cross_entropy(logits, labels, label_smoothing=epsilon) * weight for logits, weight in heads).backward()
        losses.append(sum(definition(logits.detach().numpy(), LABELS[:count], epsilon) * weight for logits, weight in heads))
        if step == 0:
            gradients = {k: ours(v.grad) for k, v in model.named_parameters()}
        optimizer.step()
        state = model.state_dict()
        if step == 0:
            stepped = {k: ours(state[k]) for k in known}
        if rounded:
            model.load_state_dict({k: state[k].float().to(dtype) for k in known}, strict=False)
    return losses, gradients, stepped


def train_paddle(name, x, steps, rounded):
    import paddle
    import paddle.nn.functional as F

    paddle.set_default_dtype(str(x.dtype))

    size, count, lr, epsilon = SETUPS[name]
    paddle.utils.unique_name.switch()
    model = build(name)
    if x.dtype == np.float64:
        model.to(dtype="float64")  # Paddle makes norms in float32 whatever the default is
        for layer in model.sublayers():
            if hasattr(layer, "_dtype"):
                layer._dtype = "float64"
    state = model.state_dict()
    model.set_state_dict({k: paddle.to_tensor(kept(k, lambda: tensor(k, list(v.shape))).astype(x.dtype)) for k, v in state.items()})
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0
    model.train()
    optimizer = paddle.optimizer.Momentum(lr, 0.9, parameters=model.parameters(), weight_decay=paddle.regularizer.L2Decay(1e-4))
    labels = paddle.to_tensor(LABELS[:count], dtype="int64")

    def cross_entropy(logits):
        if epsilon == 0:
            return F.cross_entropy(logits, label=labels)
        soft = F.label_smooth(F.one_hot(labels, logits.shape[-1]).astype(logits.dtype), epsilon=epsilon)
        return F.cross_entropy(logits, label=soft, soft_label=True).mean()

    losses, gradients, stepped = [], None, None
    for step in range(steps):
        out = model(paddle.to_tensor(x))
        heads = list(out) if isinstance(out, (list, tuple)) else [out]
        loss = sum((cross_entropy(head) * (1.0 if i == 0 else 0.3) for i, head in enumerate(heads)), 0.0)
        loss.backward()
        exact = [definition(head.numpy(), LABELS[:count], epsilon) for head in heads]
        losses.append(sum(value * (1.0 if i == 0 else 0.3) for i, value in enumerate(exact)))
        if step == 0:
            gradients = {k: v.grad.numpy() for k, v in model.state_dict().items() if not v.stop_gradient}
        optimizer.step()
        optimizer.clear_grad()
        if step == 0:
            stepped = {k: v.numpy().copy() for k, v in model.state_dict().items()}
        if rounded:
            values = {k: v.numpy().astype(np.float32).astype(x.dtype) for k, v in model.state_dict().items()}
            model.set_state_dict({k: paddle.to_tensor(v) for k, v in values.items()})
    return losses, gradients, stepped


def spread_of(gradients, moved):
    norm = lambda values: float(np.sqrt((np.asarray(values, np.float64) ** 2).sum()))
    # Some gradients are zero but for rounding: that of a shift before another norm, for instance.
    floor = 1e-9 * max(map(norm, gradients.values()))
    return max(norm(np.asarray(g, np.float64) - moved[key]) / max(norm(g), floor) for key, g in gradients.items())


def versions(name):
    if "-" in name:
        import timm
        import torch
        import torchvision

        return {"torch": torch.__version__, "timm": timm.__version__, "torchvision": torchvision.__version__, "numpy": np.__version__}
    import paddle

    return {"paddlepaddle": paddle.__version__, "paddleclas": "2.6.0", "numpy": np.__version__}


def write(name):
    size, count, lr, epsilon = SETUPS[name]
    x = images(count, size)
    spread32 = spread_of(train(name, x, 1)[1], train(name, np.nextafter(x, np.float32(9)), 1)[1])
    x = x.astype(np.float64)
    steps = STEPS.get(name, 10)
    losses, gradients, stepped = train(name, x, steps)
    spread = spread_of(gradients, train(name, np.nextafter(x, 9), 1)[1])
    others = train(name, x, steps, rounded=True)[0]
    losses_spread = max(abs(a - b) / a for a, b in zip(losses, others))
    tensors = []
    for key, value in stepped.items():
        probe = uniform("probe " + key, value.size)
        tensors.append([key, summary(gradients[key], probe) if key in gradients else None, summary(value, probe)])
    golden = {"model": name, "size": size, "labels": LABELS[:count], "lr": lr, "momentum": 0.9, "weight_decay": 1e-4,
              "label_smoothing": epsilon, "losses": losses, "losses_spread": losses_spread, "spread": spread, "spread32": spread32,
              "versions": versions(name)}
    path = os.path.join(HERE, name + ".json")
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()))
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in tensors)
        file.write(f',\n"tensors": [\n{rows}\n]\n}}\n')
    norms = [row[1][0] for row in tensors if row[1]]
    print(name, "losses", [round(v, 4) for v in losses], "spread %.1e, in float32 %.1e, of losses %.1e" % (spread, spread32, losses_spread), "norms %.2g..%.2g" % (min(norms), max(norms)),
          os.path.getsize(path), "bytes")


if __name__ == "__main__":
    names = sys.argv[1:] or [name for name in SETUPS if "-" not in name]
    if len(names) == 1:
        write(names[0])
    else:
        for name in names:
            subprocess.run([sys.executable, os.path.abspath(__file__), name], check=False)
