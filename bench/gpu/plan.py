"""Runs what docs/gpu.md wants to know of a GPU in the order of its worth, within a number of seconds.

Burn tries several kernels for each shape when it meets it first, and compiles each: minutes for a network and batch, most of them
on one core. So the cells of the tables are tuned first, beside each other, each with a cache of its own (KIT/cache/CELL) that
begins with the kernels of those before (KIT/cache/common). What is measured afterwards runs alone.

usage: plan.py KIT OUT [SECONDS]      KIT is what bench/gpu-kit.sh has built; bench/gpu.sh calls this
       plan.py --print [SECONDS]      the plan alone

Every step has the most seconds that it may take, tuning of kernels included, and is ended then; one for which less than half
of these is left is not begun. Both are said in OUT/plan.jsonl, where each step has a line as soon as it is over:
{step, limit, seconds, outcome}; the outcome is ok, failed, cut, left out,
or, where a cell was not tuned, not tuned. Steps that are ok in KIT/earlier/plan.jsonl are
not run again, and OUT begins with the rows of KIT/earlier. So a second run does what the first did not get to, with the
kernels that the first has tuned: OUT/cache.tar.xz, packed after the tuning and at the end, is KIT/cache there.

OUT gets rows.jsonl (a row of `bench` a line, as measured), plain.jsonl (the same without recorded runs), torch.jsonl (the same of
PyTorch), plan.jsonl, parity.txt, log.txt, tables.md, cache.tar.xz: as many files as the device tool brings back. gpu.sh packs
devices.json and profile.md into log.txt at the end.

For tries: NETWORKS, BATCHES, DEVICES, PRECISIONS (lists with commas), ONLY (a part of the steps' names), TUNE (seconds, 0 for none),
STRETCH (what the seconds of the other steps are multiplied by: software takes longer than a GPU).
"""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing

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
        self.seconds_to_tune = int(os.environ.get("TUNE", "200"))
        self.stretch = int(os.environ.get("STRETCH", "1"))
        self.done, self.tuned = set(), set()

    def steps(self):
        """Names, most seconds, and what to run: the most useful first."""
        yield "devices", 15, self.run_to("devices.json", [self.program, "devices", "--json"])
        if self.seconds_to_tune:
            yield "tune", self.seconds_to_tune, self.tune
        for network in self.networks:
            for precision in self.precisions:
                for device in self.devices:
                    for batch in self.batches:
                        cell = (device, precision, network, batch)
                        yield f"bench {' '.join(cell)}", 20, self.bench("rows.jsonl", *cell)
            # What a recording saves.
            if network in PROFILED:
                for device in self.devices:
                    cell = (device, self.precisions[0], network, self.batches[0])
                    yield f"plain {' '.join(cell)}", 20, self.bench("plain.jsonl", *cell, env={"INCEPTION_GPU_GRAPH": "0"})
        # PyTorch without its compiler; and figures of wrong logits are worth nothing.
        for network in self.networks:
            if network in THEIRS:
                yield f"torch {network}", 60, self.torch("eager,graph", ",".join(self.precisions), network)
            for device in self.devices:
                for precision in self.precisions:
                    yield f"parity {device} {precision} {network}", 20, self.parity(device, precision, network)
        for network in self.networks:
            if network in PROFILED:
                for device in self.devices:
                    yield f"profile {device} {network}", 20, lambda limit, network=network, device=device: self.profile(device, network, limit)
                if network in THEIRS:
                    yield f"torch tf32 {network}", 40, self.torch("eager,graph", "tf32", network)
        for network in self.networks:
            if network in THEIRS:
                yield f"torch compile {self.precisions[0]} {network}", 90, self.torch("compile", self.precisions[0], network)
        if "NETWORKS" not in os.environ:
            for network in OTHERS:
                yield f"parity {self.devices[0]} f32 {network}", 30, self.parity(self.devices[0], "f32", network)

    # What steps do: a function of the seconds left to it, which gives the outcome.

    def run_to(self, file, command, env=None, append=False, cwd=None):
        def run(limit):
            with open(os.path.join(self.out, file), "ab" if append else "wb") as output:
                return self.call(command, limit, output, env, cwd)
        return run

    def bench_command(self, cell, *more):
        device, precision, network, batch = cell
        return [self.program, "bench", "--model", network, "--batch", batch, "--device", device, "--precision", precision, "--no-pin", "--csv", *more]

    def bench(self, file, *cell, env=None):
        def run(limit):
            if self.seconds_to_tune and cell not in self.tuned:
                return "not tuned"
            command = self.bench_command(cell, "--seconds", "0.5", "--rows", os.path.join(self.out, file))
            return self.call(command, limit, subprocess.DEVNULL, env, self.folder(cell))
        return run

    def tune(self, limit):
        """Meets every shape of every cell once, TUNERS at a time; ends what is not through after `limit` seconds."""
        end = time.monotonic() + limit
        waiting = [(device, precision, network, batch) for batch in self.batches for precision in self.precisions
                   for network in self.networks for device in self.devices]
        waiting = [cell for cell in waiting if cell not in self.tuned]
        running, outcomes = [], []

        def over(entry, outcome):
            process, cell, start = entry
            running.remove(entry)
            self.keep(cell)
            outcomes.append({"cell": " ".join(cell), "seconds": round(time.monotonic() - start, 1), "outcome": outcome})
            if outcome == "ok":
                self.tuned.add(cell)

        with open(os.path.join(self.out, "log.txt"), "ab") as log:
            while waiting or running:
                while waiting and len(running) < TUNERS:
                    cell = waiting.pop(0)
                    command = self.bench_command(cell, "--seconds", "0.01")
                    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder(cell), start_new_session=True)
                    running.append((process, cell, time.monotonic()))
                time.sleep(0.1)
                for entry in list(running):
                    if entry[0].poll() is not None:
                        over(entry, "ok" if entry[0].returncode == 0 else "failed")
                    elif time.monotonic() > end:
                        os.killpg(entry[0].pid, signal.SIGKILL)
                        entry[0].wait()
                        over(entry, "cut")
                if time.monotonic() > end:
                    break
        outcomes += [{"cell": " ".join(cell), "seconds": 0, "outcome": "not begun"} for cell in waiting]
        with open(os.path.join(self.out, "plan.jsonl"), "a") as file:
            file.writelines(json.dumps({"step": "tune " + row.pop("cell"), "limit": limit, **row}) + "\n" for row in outcomes)
        return "ok" if all(row["outcome"] == "ok" for row in outcomes) else "cut"

    def keep(self, cell):
        """Adds the kernels and choices of a cell to those that every later cell begins with."""
        path = os.path.join(self.kit, "cache", "-".join(cell), "default.db")
        if not os.path.exists(path):
            return
        common = os.path.join(self.kit, "cache", "common", "default.db")
        if not os.path.exists(common):
            os.makedirs(os.path.dirname(common), exist_ok=True)
        try:
            with closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if not os.path.exists(common):
                    database.execute("VACUUM INTO ?", (common,))
                    with closing(sqlite3.connect(common)) as made:
                        made.execute("PRAGMA journal_mode=WAL")
                    return
            with closing(sqlite3.connect(common)) as database:
                database.execute("ATTACH ? AS one", (path,))
                database.execute("INSERT OR IGNORE INTO entries SELECT * FROM one.entries WHERE namespace NOT LIKE 'records/%'")
                database.commit()
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            with open(os.path.join(self.out, "log.txt"), "a") as log:
                log.write(f"cache of {' '.join(cell)}: {error}\n")

    def torch(self, modes, precisions, network):
        return self.run_to("torch.jsonl", [sys.executable, os.path.join(HERE, "torch_rows.py"), network, precisions, modes, ",".join(self.batches)],
                           append=True)

    def parity(self, device, precision, network):
        """In the largest batch whose kernels are tuned already."""
        def run(limit):
            batches = [int(batch) for batch in self.batches if (device, precision, network, batch) in self.tuned and int(batch) <= 8]
            if self.seconds_to_tune and not batches:
                return "not tuned"
            batch = str(max(batches, default=2))
            env = {"INCEPTION_GPU_NETWORKS": network, "INCEPTION_GPU_PRECISIONS": precision, "INCEPTION_GPU_BATCH": batch,
                   "INCEPTION_GPU_DEVICE": device, "INCEPTION_GOLDENS": os.path.join(ROOT, "tests/goldens")}
            command = [os.path.join(self.kit, "gpu-test"), "chosen_networks", "--exact", "--nocapture"]
            return self.run_to("parity.txt", command, env, append=True, cwd=self.folder((device, precision, network, batch)))(limit)
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
            self.configured(folder, f"{device}-f32-{network}-1", f'[profiling.logger]\nlevel = "{level}"\nfile = "{log}"\n')
            command = [self.program, "predict", "--model", network, "--random-weights", "--device", device, "--image", *[self.image] * count]
            # A recording launches a run more than once.
            outcome = self.call(command, end - time.monotonic(), subprocess.DEVNULL, {"INCEPTION_GPU_GRAPH": "0"}, folder)
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

    def folder(self, cell):
        """The folder from which the commands of a cell run, with the configuration that names its cache."""
        name = "-".join(cell)
        cache, common = (os.path.join(self.kit, "cache", part, "default.db") for part in (name, "common"))
        if os.path.exists(common) and not os.path.exists(cache):
            os.makedirs(os.path.dirname(cache), exist_ok=True)
            shutil.copy(common, cache)
        return self.configured(os.path.join(self.kit, "folders", name), name)

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
        common = os.path.join(self.kit, "cache", "common", "default.db")
        if os.path.exists(common):
            part = os.path.join(self.out, "cache.part")
            with tarfile.open(part, "w:xz", preset=1) as archive:
                archive.add(common, "cache/common/default.db")
            os.replace(part, os.path.join(self.out, "cache.tar.xz"))

    def say(self, step, limit, seconds, outcome):
        with open(os.path.join(self.out, "plan.jsonl"), "a") as file:
            file.write(json.dumps({"step": step, "limit": limit, "seconds": round(seconds, 1), "outcome": outcome}) + "\n")
        print(f"{outcome:8} {seconds:6.1f} of {limit:3} s  {step}  ({self.end - time.monotonic():.0f} s left)", flush=True)

    def go_on(self):
        """What an earlier run has done."""
        earlier = os.path.join(self.kit, "earlier")
        for name in ("rows.jsonl", "plain.jsonl", "torch.jsonl", "parity.txt", "devices.json", "profile.md"):
            if os.path.exists(os.path.join(earlier, name)):
                shutil.copy(os.path.join(earlier, name), os.path.join(self.out, name))
        plan = os.path.join(earlier, "plan.jsonl")
        if os.path.exists(plan):
            with open(plan) as file:
                lines = [line for line in file if json.loads(line)["outcome"] == "ok"]
            self.done = {json.loads(line)["step"] for line in lines}
            self.tuned = {tuple(step.split()[1:]) for step in self.done if step.startswith("tune ")}
            # The run after this one is told of them, too.
            with open(os.path.join(self.out, "plan.jsonl"), "w") as file:
                file.writelines(lines)

    def run(self):
        self.go_on()
        only = os.environ.get("ONLY", "")
        for step, limit, run in self.steps():
            limit *= 1 if step == "tune" else self.stretch
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
            if step == "tune":
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
