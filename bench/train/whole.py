"""Steps of training all of a network in PyTorch, as `inception train --freeze none` makes them: torchvision's network of random
weights without auxiliary heads, SGD with momentum, channels last. Prints one JSON object.

usage: ENV/bin/python bench/train/whole.py googlenet|inception_v3 SIDE BATCH STEPS [THREADS]
The pictures are random and in memory: no time goes into reading them. The first half of the steps warms up.
"""
import json
import sys
import time

import torch
from torchvision import models

name, side, batch, steps = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(int(sys.argv[5]) if len(sys.argv) > 5 else 2)
torch.manual_seed(0)
network = getattr(models, name)(weights=None, aux_logits=False, num_classes=10, init_weights=False)
network = network.train().to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
labels = torch.arange(batch) % 10
for step in range(steps):
    if step == steps // 2:
        start = time.perf_counter()
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
seconds = (time.perf_counter() - start) / (steps - steps // 2)
print(json.dumps({"network": name, "side": side, "batch": batch, "images_per_second": round(batch / seconds, 2), "torch": torch.__version__}))
