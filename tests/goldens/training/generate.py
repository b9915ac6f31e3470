"""Writes NAME.json beside this file: what ten steps of PaddleClas's training are from the formula's weights.

usage: ENV/bin/python tests/goldens/training/generate.py [NAME...]
in the environment of `../generate.py`, whose formula and networks it uses.

The batch is the first images of the formula, of small size, with the labels `LABELS`. Dropout is off (p = 0), since no two
libraries draw alike. Rates are such that the loss falls and the losses of ten steps are
defined: the formula's Inceptions have gradients with norms of hundreds, and at usual rates their losses are chaotic from the third
step on (`losses_spread`). The loss is `CELoss(epsilon)` of the network's configuration, for GoogLeNet `GoogLeNetLoss`; the
optimiser is Momentum (0.9) with L2 of 1e-4. Running statistics have Paddle's momentum of 0.9.

Paddle computes in float64. In float32 a gradient is defined less well than it is to be compared: rounding decides which side
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
    "InceptionV3": (107, 4, 2e-7, 0.1), "InceptionV4": (107, 4, 2e-10, 0.1),
    "Xception41": (96, 4, 0.003, 0.1), "Xception65": (96, 4, 0.003, 0.1), "Xception71": (64, 2, 0.001, 0.1),
    "Xception41_deeplab": (96, 4, 0.003, 0.1), "Xception65_deeplab": (96, 4, 0.003, 0.1),
}
STEPS = 10


def short(value):
    return float(f"{float(value):.8g}")


def summary(key, values):
    values = np.asarray(values, np.float64).ravel()
    probe = uniform("probe " + key, values.size)
    return [short(np.sqrt((values * values).sum())), short((values * probe).sum()), [short(v) for v in values[:3]]]


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
    model.set_state_dict({k: paddle.to_tensor(tensor(k, list(v.shape)).astype(x.dtype)) for k, v in state.items()})
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


def write(name):
    import paddle

    paddle.seed(0)
    size, count, lr, epsilon = SETUPS[name]
    x = images(count, size)
    spread32 = spread_of(train(name, x, 1)[1], train(name, np.nextafter(x, np.float32(9)), 1)[1])
    x = x.astype(np.float64)
    losses, gradients, stepped = train(name, x, STEPS)
    spread = spread_of(gradients, train(name, np.nextafter(x, 9), 1)[1])
    others = train(name, x, STEPS, rounded=True)[0]
    losses_spread = max(abs(a - b) / a for a, b in zip(losses, others))
    tensors = [[key, summary(key, gradients[key]) if key in gradients else None, summary(key, value)]
               for key, value in stepped.items()]
    golden = {"model": name, "size": size, "labels": LABELS[:count], "lr": lr, "momentum": 0.9, "weight_decay": 1e-4,
              "label_smoothing": epsilon, "losses": losses, "losses_spread": losses_spread, "spread": spread, "spread32": spread32,
              "versions": {"paddlepaddle": paddle.__version__, "paddleclas": "2.6.0", "numpy": np.__version__}}
    path = os.path.join(HERE, name + ".json")
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()))
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in tensors)
        file.write(f',\n"tensors": [\n{rows}\n]\n}}\n')
    norms = [row[1][0] for row in tensors if row[1]]
    print(name, "losses", [round(v, 4) for v in losses], "spread %.1e, in float32 %.1e, of losses %.1e" % (spread, spread32, losses_spread), "norms %.2g..%.2g" % (min(norms), max(norms)),
          os.path.getsize(path), "bytes")


if __name__ == "__main__":
    names = sys.argv[1:] or list(SETUPS)
    if len(names) == 1:
        write(names[0])
    else:
        for name in names:
            subprocess.run([sys.executable, os.path.abspath(__file__), name], check=False)
