"""Reads a checkpoint with its framework's own reader and prints seconds and megabytes: for `cargo xtask parity --loading`."""
import json
import os
import sys
import time

path = sys.argv[1]
if path.endswith(".pdparams"):
    import paddle

    read = paddle.load
elif path.endswith(".safetensors"):
    from safetensors.numpy import load_file as read
else:
    import torch

    read = torch.load


def status(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith(field + ":"))


# The peak starts anew.
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
start = time.perf_counter()
state = read(path)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "megabytes": status("VmHWM") - before}))
