"""Time and peak memory from files to FID, `inception fid` and the tools in turn.

usage: ENV/bin/python bench/fid/speed.py PROGRAM WEIGHTS A B ROUNDS [TOOL...]
Two threads each. With TOOLs only these (pytorch-fid clean-fid torch-fidelity torchmetrics). Batches of 50, as pytorch-fid has.
"""
import os
import resource
import statistics
import subprocess
import sys
import time

import weights as own

CODE = """
import sys, torch
torch.set_num_threads(2)
sys.path.insert(0, {here!r})
import tools
options = tools.arguments({weights!r}, {a!r}, {b!r}, "-", "--batch", "50", "--kid", "1", "2")
print(tools.FID_ONLY[{name!r}](options, {a!r}, {b!r}))
"""


def run(command):
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output.strip().splitlines()[-1]


def main(program, weights, a, b, rounds, *names):
    here = os.path.dirname(os.path.abspath(__file__))
    names = names or ("pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics")
    commands = {}
    for name in names:
        commands[f"inception, {name}"] = [program, "fid", a, b, "--protocol", name, "--weights", os.path.join(weights, own.NAME), "--threads", "2",
                                          "--metrics", "fid", "--json"]
        commands[name] = [sys.executable, "-c", CODE.format(here=here, weights=weights, a=a, b=b, name=name)]
    found = {name: [] for name in commands}
    for _ in range(int(rounds)):
        for name, command in commands.items():
            seconds, memory, output = run(command)
            found[name].append((seconds, memory))
            print(f"{name:28} {seconds:8.1f} s {memory:8.0f} MiB  {output[:60]}", flush=True)
    for name, runs in found.items():
        times = [seconds for seconds, _ in runs]
        print(f"{name:28} median {statistics.median(times):.1f} s, {min(times):.1f} to {max(times):.1f}; peak {max(m for _, m in runs):.0f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
