"""Runs what docs/gpu.md wants to know of a GPU in the order of its worth, within a number of seconds.

Burn tries several kernels for each shape when it meets it first, and compiles each: minutes for a network, most of them on one
core. So all networks are tuned first, beside each other, each with a cache of its own (KIT/cache/NETWORK-PRECISION). What is
measured afterwards runs alone.

usage: plan.py KIT OUT [SECONDS]      KIT is what bench/gpu-kit.sh has built; bench/gpu.sh calls this
       plan.py --print [SECONDS]      the plan alone

Every step has the most seconds that it may take, tuning of kernels included, and is ended then; one for which less than half
of these is left is not begun. Both are said in OUT/plan.jsonl, where each step has a line as soon as it is over:
{step, limit, seconds, outcome}; the outcome is ok, failed, cut or left out. Steps that are ok in KIT/earlier/plan.jsonl are
not run again, and OUT begins with the rows of KIT/earlier. So a second run does what the first did not get to, with the
kernels that the first has tuned: OUT/cache.tar.xz, packed after each minute, is KIT/cache there.

OUT gets rows.jsonl (a row of `bench` a line, as measured), torch.jsonl (the same of PyTorch), parity.txt, log.txt, devices.json,
profile.md, tables.md, cache.tar.xz: eight files and plan.jsonl, which is one too many for the device tool; gpu.sh packs
devices.json and profile.md into log.txt at the end.

For tries: NETWORKS, BATCHES, DEVICES, PRECISIONS (lists with commas), ONLY (a part of the steps' names), TUNE (seconds, 0 for none).
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

from torch_rows import THEIRS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# At most so many networks are tuned beside each other: each takes a core.
TUNERS = os.cpu_count() or 1
# Most people's first; the last two of the reference's are the largest.
NETWORKS = ["InceptionV3", "GoogLeNet", "Xception41", "InceptionV4", "Xception65", "Xception71", "Xception41_deeplab", "Xception65_deeplab"]
OTHERS = ["fid-inception_v3", "timm-inception_v3", "timm-inception_v4", "timm-inception_resnet_v2", "timm-xception41", "timm-xception65",
          "timm-xception71", "timm-legacy_xception", "torchvision-googlenet", "torchvision-inception_v3", "keras-inception_v3",
          "keras-inception_resnet_v2", "keras-xception"]
PROFILED = ["GoogLeNet", "InceptionV3"]


def chosen(name, default):
    return [part for part in os.environ[name].split(",") if part] if name in os.environ else default


class Plan:
    def __init__(self, kit, out, seconds):
        self.kit, self.out, self.end = kit, out, time.monotonic() + seconds
        self.program = os.path.join(kit, "inception")
        self.image = os.path.join(ROOT, "tests/images/ILSVRC2012_val_00000010.jpeg")
        self.networks = chosen("NETWORKS", NETWORKS)
        self.batches = chosen("BATCHES", ["1", "4", "8", "32"])
        self.precisions = chosen("PRECISIONS", ["f16", "f32"])
        self.devices = chosen("DEVICES", ["vulkan"])
        self.done, self.packed = set(), 0.0

    def steps(self):
        """Names, most seconds, and what to run: the most useful first."""
        device, others = self.devices[0], self.devices[1:]
        yield "devices", 15, self.run_to("devices.json", [self.program, "devices", "--json"])
        tune = int(os.environ.get("TUNE", "180"))
        if tune:
            yield f"tune {device}", tune, lambda limit: self.tune(device, limit)
        # Both tables of one device, and PyTorch without its compiler, network by network: a cut run has whole rows.
        for network in self.networks:
            for precision in self.precisions:
                yield f"bench {device} {precision} {network}", 40, self.bench(device, precision, network)
            if network in THEIRS:
                yield f"torch eager,graph {network}", 40, self.torch("eager,graph", ",".join([*self.precisions, "tf32"]), network)
            # Figures of wrong logits are worth nothing.
            yield f"parity {device} {network}", 30, self.parity(device, network)
            if network in PROFILED:
                yield f"profile {device} {network}", 20, lambda limit, network=network: self.profile(device, network, limit)
        for network in self.networks:
            if network in THEIRS:
                yield f"torch compile {self.precisions[0]} {network}", 60, self.torch("compile", self.precisions[0], network)
        for other in others:
            for network in PROFILED:
                if network in self.networks:
                    yield f"bench {other} {self.precisions[0]} {network}", 40, self.bench(other, self.precisions[0], network)
        if "NETWORKS" not in os.environ:
            for network in OTHERS:
                yield f"parity {device} {network}", 30, self.parity(device, network)

    # What steps do: a function of the seconds left to it, which gives the outcome.

    def run_to(self, file, command, env=None, append=False, cwd=None):
        def run(limit):
            with open(os.path.join(self.out, file), "ab" if append else "wb") as output:
                return self.call(command, limit, output, env, cwd)
        return run

    def bench_command(self, device, precision, network, *more):
        return [self.program, "bench", "--model", network, "--batch", ",".join(self.batches), "--device", device, "--precision", precision,
                "--no-pin", "--csv", *more]

    def bench(self, device, precision, network):
        command = self.bench_command(device, precision, network, "--seconds", "0.5", "--rows", os.path.join(self.out, "rows.jsonl"))
        return lambda limit: self.call(command, limit, subprocess.DEVNULL, cwd=self.folder(network, precision))

    def tune(self, device, limit):
        """Meets every shape of every network once, TUNERS at a time; ends what is not through after `limit` seconds."""
        end = time.monotonic() + limit
        waiting = [(network, precision) for precision in self.precisions for network in self.networks]
        running, outcomes = [], []
        with open(os.path.join(self.out, "tune.log"), "ab") as log:
            while waiting or running:
                while waiting and len(running) < TUNERS:
                    network, precision = waiting.pop(0)
                    command = self.bench_command(device, precision, network, "--seconds", "0.01")
                    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder(network, precision), start_new_session=True)
                    running.append((process, f"{network} {precision}", time.monotonic()))
                time.sleep(0.1)
                if time.monotonic() > end:
                    for process, _, _ in running:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                    outcomes += [f"{name}: cut" for _, name, _ in running] + [f"{' '.join(pair)}: not begun" for pair in waiting]
                    break
                for entry in [entry for entry in running if entry[0].poll() is not None]:
                    running.remove(entry)
                    outcomes.append(f"{entry[1]}: {time.monotonic() - entry[2]:.0f} s, {'ok' if entry[0].returncode == 0 else 'failed'}")
            log.write(("\n".join(outcomes) + "\n").encode())
        with open(os.path.join(self.out, "tune.log"), "rb") as log, open(os.path.join(self.out, "log.txt"), "ab") as whole:
            whole.write(b"== tune\n" + log.read())
        os.remove(os.path.join(self.out, "tune.log"))
        return "ok" if all(outcome.endswith("ok") for outcome in outcomes) else "cut"

    def torch(self, modes, precisions, network):
        return self.run_to("torch.jsonl", [sys.executable, os.path.join(HERE, "torch_rows.py"), network, precisions, modes, ",".join(self.batches)],
                           append=True)

    def parity(self, device, network):
        """A precision at a time, in batches whose kernels are tuned already."""
        batch = max((int(batch) for batch in self.batches if int(batch) <= 4), default=1)

        def run(limit):
            end = time.monotonic() + limit
            outcomes = []
            for precision in self.precisions:
                env = {"INCEPTION_GPU_NETWORKS": network, "INCEPTION_GPU_PRECISIONS": precision, "INCEPTION_GPU_BATCH": str(batch),
                       "INCEPTION_GPU_DEVICE": device, "INCEPTION_GOLDENS": os.path.join(ROOT, "tests/goldens")}
                command = [os.path.join(self.kit, "gpu-test"), "chosen_networks", "--exact", "--nocapture"]
                outcomes.append(self.run_to("parity.txt", command, env, append=True, cwd=self.folder(network, precision))(end - time.monotonic()))
            return next((outcome for outcome in outcomes if outcome != "ok"), "ok")
        return run

    def profile(self, device, network, limit):
        """How many kernels of which name a run launches, what three pictures launch more than one does; and the times of each."""
        folder = os.path.join(self.kit, "profile")
        os.makedirs(folder, exist_ok=True)
        end = time.monotonic() + limit
        outcome = "ok"
        for count, level in ((1, "minimal"), (1, "minimal"), (3, "minimal"), (3, "medium")):
            log = os.path.join(folder, "log")
            if os.path.exists(log):
                os.remove(log)
            self.configured(folder, f"{network}-f32", f'[profiling.logger]\nlevel = "{level}"\nfile = "{log}"\n')
            command = [self.program, "predict", "--model", network, "--random-weights", "--device", device, "--image", *[self.image] * count]
            outcome = self.call(command, end - time.monotonic(), subprocess.DEVNULL, cwd=folder)
            # Devices on the CPU launch no kernels.
            if outcome != "ok" or not os.path.exists(log):
                return outcome if outcome != "ok" else "failed"
            os.replace(log, os.path.join(folder, f"{network}-{count if level == 'minimal' else 'times'}.log"))
        with open(os.path.join(self.out, "profile.md"), "wb") as output:
            outcome = self.call([sys.executable, os.path.join(ROOT, "bench/kernels.py"), folder], 10, output)
        times = open(os.path.join(folder, f"{network}-times.log")).read()
        with open(os.path.join(self.out, "profile.md"), "a") as output:
            output.write(f"\nThe profiler's own words of three pictures by {network}, the last 200 lines:\n\n```\n")
            output.write("\n".join(times.splitlines()[-200:]) + "\n```\n")
        return outcome

    def folder(self, network, precision, more=""):
        """The folder from which a network's commands run, with the configuration that names its cache."""
        return self.configured(os.path.join(self.kit, "folders", f"{network}-{precision}"), f"{network}-{precision}", more)

    def configured(self, folder, cache, more=""):
        os.makedirs(folder, exist_ok=True)
        cache = os.path.join(self.kit, "cache", cache)
        os.makedirs(cache, exist_ok=True)
        with open(os.path.join(folder, "cubecl.toml"), "w") as file:
            file.write(f'[environment.path]\ndirectory = "{cache}"\n\n[compilation]\ncache = true\n\n{more}')
        return folder

    def call(self, command, limit, output, env=None, cwd=None):
        """Runs a command for `limit` seconds at most."""
        with open(os.path.join(self.out, "log.txt"), "ab") as log:
            log.write(f"== {' '.join(command)}\n".encode())
            log.flush()
            try:
                process = subprocess.Popen(command, stdout=output, stderr=log, cwd=cwd or self.kit, env={**os.environ, **(env or {})}, start_new_session=True)
            except OSError as error:
                log.write(f"{error}\n".encode())
                return "failed"
            for sent in (signal.SIGINT, signal.SIGKILL):
                try:
                    return "ok" if process.wait(limit) == 0 else "failed"
                except subprocess.TimeoutExpired:
                    # `bench` prints what it has after the first.
                    os.killpg(process.pid, sent)
                    limit = 3
            process.wait()
            return "cut"

    def pack_cache(self):
        cache = os.path.join(self.kit, "cache")
        if os.path.isdir(cache) and os.listdir(cache):
            part = os.path.join(self.out, "cache.part")
            with tarfile.open(part, "w:xz", preset=1) as archive:
                archive.add(cache, "cache")
            os.replace(part, os.path.join(self.out, "cache.tar.xz"))
        self.packed = time.monotonic()

    def say(self, step, limit, seconds, outcome):
        with open(os.path.join(self.out, "plan.jsonl"), "a") as file:
            file.write(json.dumps({"step": step, "limit": limit, "seconds": round(seconds, 1), "outcome": outcome}) + "\n")
        print(f"{outcome:8} {seconds:6.1f} of {limit:3} s  {step}  ({self.end - time.monotonic():.0f} s left)", flush=True)

    def go_on(self):
        """What an earlier run has done."""
        earlier = os.path.join(self.kit, "earlier")
        for name in ("rows.jsonl", "torch.jsonl", "parity.txt", "devices.json", "profile.md"):
            if os.path.exists(os.path.join(earlier, name)):
                shutil.copy(os.path.join(earlier, name), os.path.join(self.out, name))
        plan = os.path.join(earlier, "plan.jsonl")
        if os.path.exists(plan):
            with open(plan) as file:
                lines = [line for line in file if json.loads(line)["outcome"] == "ok"]
            self.done = {json.loads(line)["step"] for line in lines}
            # The run after this one is told of them, too.
            with open(os.path.join(self.out, "plan.jsonl"), "w") as file:
                file.writelines(lines)

    def run(self):
        self.go_on()
        only = os.environ.get("ONLY", "")
        for step, limit, run in self.steps():
            if step in self.done or only not in step:
                continue
            left = self.end - time.monotonic()
            if left < limit / 2:
                self.say(step, limit, 0, "left out")
                continue
            start = time.monotonic()
            try:
                outcome = run(min(limit, left))
            except Exception as error:  # Of one step; the others go on.
                outcome = "failed"
                with open(os.path.join(self.out, "log.txt"), "a") as log:
                    log.write(f"{step}: {type(error).__name__}: {error}\n")
            self.say(step, limit, time.monotonic() - start, outcome)
            if time.monotonic() - self.packed > 60:
                self.pack_cache()
        self.pack_cache()
        with open(os.path.join(self.out, "tables.md"), "wb") as output:
            self.call([sys.executable, os.path.join(HERE, "tables.py"), self.kit, self.out], 20, output)


def main(*arguments):
    if arguments[0] == "--print":
        left = float(arguments[1]) if len(arguments) > 1 else 0
        for step, limit, _ in Plan(".", ".", 0).steps():
            left -= limit
            print(f"{limit:4} s  {step}" + ("" if len(arguments) == 1 or left >= 0 else "   (only if others take less)"))
        return
    kit, out, *seconds = arguments
    os.makedirs(out, exist_ok=True)
    Plan(os.path.abspath(kit), os.path.abspath(out), float(seconds[0]) if seconds else 560).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
