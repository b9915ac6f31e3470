"""Time and peak memory from files to FID, `inception fid` and the tools in turn.

usage: ENV/bin/python bench/fid/speed.py PROGRAM WEIGHTS A B ROUNDS [TOOL[:WORKERS]...]
Two threads each (THREADS in the environment says otherwise). With TOOLs only these (pytorch-fid clean-fid torch-fidelity torchmetrics), with so many processes that read pictures
(0 otherwise; torch-fidelity decides itself). Batches of 50, as pytorch-fid has. In the environment ISA=avx2 keeps all to AVX2, and
ONLY=tools leaves `inception` out.
"""
import os
import statistics
import subprocess
import sys
import time

import weights as own

CODE = """
import sys, torch
torch.set_num_threads({threads})
sys.path.insert(0, {here!r})
import tools
options = tools.arguments({weights!r}, {a!r}, {b!r}, "-", "--batch", "50", "--kid", "1", "2", "--workers", "{workers}")
print(tools.FID_ONLY[{name!r}](options, {a!r}, {b!r}))
"""
THREADS = os.environ.get("THREADS", "2")
ISA = {"avx2": {"INCEPTION_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}


def run(command):
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, 
                               env={**os.environ, "OMP_NUM_THREADS": THREADS, **ISA.get(os.environ.get("ISA"), {})})
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    # The largest process; reading processes come on top.
    return time.perf_counter() - start, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, output.strip().splitlines()[-1]


def main(program, weights, a, b, rounds, *names):
    here = os.path.dirname(os.path.abspath(__file__))
    names = names or ("pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics")
    commands = {}
    for wanted in names:
        name, _, workers = wanted.partition(":")
        if os.environ.get("ONLY") != "tools":
            commands[f"inception, {name}"] = [program, "fid", a, b, "--protocol", name, "--weights", os.path.join(weights, own.NAME), "--threads", THREADS, "--workers", THREADS,
                                          "--metrics", "fid", "--json"]
        commands[wanted] = [sys.executable, "-c", CODE.format(here=here, weights=weights, a=a, b=b, name=name, workers=workers or 0,
                                                                     threads=THREADS)]
    found = {name: [] for name in commands}
    for _ in range(int(rounds)):
        for name, command in commands.items():
            seconds, memory, cpu, output = run(command)
            found[name].append((seconds, memory))
            print(f"{name:28} {seconds:8.1f} s {memory:8.0f} MiB {cpu:8.1f} s of CPU  {output[:60]}", flush=True)
    for name, runs in found.items():
        times = [seconds for seconds, _ in runs]
        print(f"{name:28} median {statistics.median(times):.1f} s, {min(times):.1f} to {max(times):.1f}; peak {max(m for _, m in runs):.0f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
