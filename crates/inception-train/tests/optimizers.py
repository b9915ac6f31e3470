"""Writes `optimizers.in` beside this file: four steps of PyTorch's optimisers, in double precision, as an array in Rust.

usage: ENV/bin/python crates/inception-train/tests/optimizers.py      (ENV has torch)
"""
import os

import torch

OPTIMIZERS = [("Sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
              ("Adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
              ("Adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01))]

lines = []
for name, make in OPTIMIZERS:
    values = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer, rows = make([values]), []
    for step in range(4):
        a, b = values.detach()
        values.grad = torch.stack([0.5 * a + step * 0.25, b * b * 0.125])
        optimizer.step()
        rows.append("[{:.12}, {:.12}]".format(*values.detach().tolist()))
    lines.append(f"    (OptimizerKind::{name}, [{', '.join(rows)}]),\n")
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "optimizers.in"), "w") as file:
    file.write("[\n" + "".join(lines) + "]\n")
