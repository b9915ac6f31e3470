"""Throughput and latency beside other servers, in turn.

    load.py INCEPTION_BINARY LOAD_BINARY FOLDER PYTHON MODEL... > result.json
    load.py --table result.json...

FOLDER has MODEL.safetensors and MODEL.onnx, the same weights, as `inception convert` writes them. PYTHON is that of an
environment with fastapi, uvicorn, litserve, onnxruntime and opencv-python-headless. LOAD_BINARY is the example `load` of
inception-serve, which takes a tenth of a millisecond of a core for a request.

All servers of a model live at the same time, and all but the one that is measured are stopped (SIGSTOP). Each round
measures each of them for a few seconds with each number of clients, so that a machine that is slow for a minute is so for
all; and then at half of what the best of the others does, for the latency of a server that has time to spare. Ratios are
those of one round, of pictures a second, at half load of the 99th percentiles; their median counts. `--table` prints what docs/serving.md has.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGES = os.path.join(HERE, "../../tests/images")
# The photograph of 500 x 375.
PICTURES = [os.path.join(IMAGES, name) for name in sorted(os.listdir(IMAGES)) if "00000010" in name]
SIZES = {"GoogLeNet": (256, 224), "InceptionV3": (320, 299)}
ROUNDS = int(os.environ.get("ROUNDS", 4))
SECONDS = os.environ.get("SECONDS_EACH", "2.5")
CLIENTS = [int(count) for count in os.environ.get("CLIENTS", "1,8,64").split(",")]
OURS = "inception"
SERVERS = os.environ.get("SERVERS", f"{OURS},fastapi,litserve").split(",")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    def __init__(self, kind, model, binary, load, folder, python):
        self.kind, self.load, self.port = kind, load, free_port()
        if kind == OURS:
            weights = f"{model}={folder}/{model}.safetensors"
            command = [binary, "serve", "--model", weights, "--http", f"127.0.0.1:{self.port}", "--log-level", "error"]
            self.path = f"/v1/models/{model}/classify"
        else:
            short, crop = SIZES[model]
            command = [python, f"{HERE}/rivals.py", kind, f"{folder}/{model}.onnx", str(self.port), str(short), str(crop)]
            self.path = "/classify"
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        for _ in range(600):
            time.sleep(0.1)
            if self.measure(1, "0.1", warm_up="0")["answers"]:
                self.send(signal.SIGSTOP)
                return
        raise SystemExit(f"{kind} did not start")

    def send(self, which):
        os.killpg(self.process.pid, which)

    def measure(self, clients, seconds, warm_up="0.5", rate="0"):
        form = ["--form"] if self.kind == "litserve" else []
        command = [self.load, f"127.0.0.1:{self.port}", self.path, "--clients", str(clients), "--seconds", seconds,
                   "--warm-up", warm_up, "--rate", rate, "--all", *form, *PICTURES]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return json.loads(found.stdout)

    def in_turn(self, *arguments, **more):
        self.send(signal.SIGCONT)
        try:
            return self.measure(*arguments, **more)
        finally:
            self.send(signal.SIGSTOP)


def cpu():
    first = open("/proc/cpuinfo").read().split("\n\n")[0].replace("\t", "")
    lines = dict(line.split(":", 1) for line in first.splitlines())
    name, family, model = (lines[key].strip() for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model}), {os.cpu_count()} cores"


def main(binary, load, folder, python, *models):
    runs = []
    for model in models:
        servers = []
        try:
            servers = [Server(kind, model, binary, load, folder, python) for kind in SERVERS]

            def measure(turn, what, clients, **more):
                # Another one first in each round.
                at = turn % len(servers)
                for server in servers[at:] + servers[:at]:
                    found = server.in_turn(clients, SECONDS, **more)
                    runs.append({"model": model, "server": server.kind, "round": turn, "what": what, **found})
                    shown = {key: value for key, value in runs[-1].items() if key != "latencies_ms"}
                    print(json.dumps(shown), file=sys.stderr, flush=True)

            for turn in range(ROUNDS):
                for clients in CLIENTS:
                    measure(turn, f"{clients} clients", clients)
            of = lambda kind: [run["pictures_per_second"] for run in runs if run["model"] == model and run["server"] == kind]
            most = max((max(of(server.kind)) for server in servers if server.kind != OURS), default=max(of(OURS)))
            for turn in range(ROUNDS):
                measure(turn, "half load", 64, rate=str(most / 2))
        finally:
            for server in servers:
                server.send(signal.SIGKILL)
                server.process.wait()
    print(json.dumps({"cpu": cpu(), "rounds": ROUNDS, "seconds_each": SECONDS, "runs": runs}))


def quantile(values, share):
    values = sorted(values)
    return values[round((len(values) - 1) * share)]


def table(*files):
    runs = [run for file in files for run in json.load(open(file))["runs"]]
    kinds = [kind for kind in (OURS, "fastapi", "litserve") if any(run["server"] == kind for run in runs)]
    print(f"| network | | {' | '.join(kinds)} | times the better (each round) |")
    print("|---|---|" + "---|" * len(kinds) + "---|")
    for model, what in dict.fromkeys((run["model"], run["what"]) for run in runs):
        of = {kind: [run for run in runs if (run["model"], run["what"], run["server"]) == (model, what, kind)] for kind in kinds}
        cells = []
        for kind in kinds:
            latencies = [each for run in of[kind] for each in run["latencies_ms"]]
            rate = statistics.median(run["pictures_per_second"] for run in of[kind])
            lost = sum(run["refused"] + run["failed"] for run in of[kind])
            cells.append(f"{rate:.1f}, {quantile(latencies, 0.5):.0f} / {quantile(latencies, 0.99):.0f}" + (f", {lost} lost" if lost else ""))
        ratios = []
        for turn in zip(*[sorted(of[kind], key=lambda run: run["round"]) for kind in kinds]):
            if what == "half load":
                # All do the same number: latencies differ.
                ratios.append(min(run["p99_ms"] for run in turn[1:]) / turn[0]["p99_ms"])
            else:
                ratios.append(turn[0]["pictures_per_second"] / max(run["pictures_per_second"] for run in turn[1:]))
        shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {model} | {what} | {' | '.join(cells)} | {statistics.median(ratios):.2f} ({shown}) |")


if __name__ == "__main__":
    table(*sys.argv[2:]) if sys.argv[1] == "--table" else main(*sys.argv[1:])
