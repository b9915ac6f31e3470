"""Kills `inception train` at ten random moments, continues it each time, and compares the final files with an
uninterrupted run's, to the byte.

usage: python bench/train/kill.py INCEPTION DATA [SEED [whole]]      (DATA has a folder for each class; nothing but Python)
With `whole` all of the network is trained (`--freeze none`), which wants a build with flex.
"""
import filecmp
import os
import random
import subprocess
import sys
import tempfile
import time

program, data = sys.argv[1:3]
seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
recipe = ["--epochs", "60"]
if sys.argv[4:] == ["whole"]:
    recipe = ["--epochs", "3", "--limit", "60", "--freeze", "none", "--lr", "0.001"]
random.seed(seed)
with tempfile.TemporaryDirectory() as folder:
    def command(to, *more):
        return [program, "train", "--model", "GoogLeNet", "--random-weights", "--crop", "64", "--resize-short", "64",
                "--data", data, "--cache", f"{folder}/cache-{to}", "--to", f"{folder}/{to}", *recipe, "--batch", "8",
                "--optimizer", "sgd", "--mixup", "0.3", "--save-every", "0", *more]

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.perf_counter()
    subprocess.run(command("whole"), check=True, **quiet)
    whole = time.perf_counter() - start
    killed = 0
    for _ in range(10):
        # The run has a cache of its own, so that the first moments fall into the extraction of features.
        process = subprocess.Popen(command("killed", "--resume"), **quiet)
        try:
            process.wait(timeout=random.uniform(0, whole * 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    subprocess.run(command("killed", "--resume"), check=True, **quiet)
    for name in ("best.safetensors", "last.safetensors"):
        assert filecmp.cmp(f"{folder}/whole/{name}", f"{folder}/killed/{name}", shallow=False), f"{name} differs, seed {seed}"
    print(f"killed {killed} times in a run of {whole:.1f} s: equal files; seed {seed}")
