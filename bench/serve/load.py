"""Throughput and latency beside other servers, in turn.

    load.py INCEPTION_BINARY LOAD_BINARY FOLDER PYTHON MODEL... > result.json

FOLDER has MODEL.safetensors and MODEL.onnx, the same weights, as `inception convert` writes them. PYTHON is that of an
environment with fastapi, uvicorn, litserve, onnxruntime and opencv-python-headless. LOAD_BINARY is the example `load` of
inception-serve. Servers run one at a time, each as often as the others, and each measurement is kept.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

BINARY, LOAD, FOLDER, PYTHON = sys.argv[1:5]
MODELS = sys.argv[5:]
HERE = os.path.dirname(os.path.abspath(__file__))
PICTURES = [os.path.join(HERE, "../../tests/images", name) for name in sorted(os.listdir(os.path.join(HERE, "../../tests/images")))]
# The photograph of 500 x 375.
PICTURES = [path for path in PICTURES if "00000010" in path]
SIZES = {"GoogLeNet": (256, 224), "InceptionV3": (320, 299)}
ROUNDS = int(os.environ.get("ROUNDS", 2))
SECONDS = os.environ.get("SECONDS_EACH", "4")
CLIENTS = [int(count) for count in os.environ.get("CLIENTS", "1,8,64").split(",")]
SERVERS = os.environ.get("SERVERS", "inception,fastapi,litserve").split(",")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(kind, model):
    port = free_port()
    if kind == "inception":
        weights = f"{model}={FOLDER}/{model}.safetensors"
        command = [BINARY, "serve", "--model", weights, "--http", f"127.0.0.1:{port}", "--log-level", "error"]
        path = f"/v1/models/{model}/classify"
    else:
        short, crop = SIZES[model]
        command = [PYTHON, f"{HERE}/rivals.py", kind, f"{FOLDER}/{model}.onnx", str(port), str(short), str(crop)]
        path = "/classify"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(600):
        time.sleep(0.1)
        if load(kind, port, path, 1, "0.1", warm_up="0")["answers"]:
            return process, port, path
    raise SystemExit(f"{kind} did not start")


def load(kind, port, path, clients, seconds, warm_up="1", rate="0"):
    form = ["--form"] if kind == "litserve" else []
    command = [LOAD, f"127.0.0.1:{port}", path, "--clients", str(clients), "--seconds", seconds, "--warm-up", warm_up, "--rate", rate, *form, *PICTURES]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def stop(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def cpu():
    lines = dict(line.split(":", 1) for line in open("/proc/cpuinfo").read().split("\n\n")[0].replace("\t", "").splitlines())
    return f"{lines['model name'].strip()} (family {lines['cpu family'].strip()}, model {lines['model'].strip()}), {os.cpu_count()} cores"


def main():
    runs = []
    half = {}
    for model in MODELS:
        for turn in range(ROUNDS):
            for kind in SERVERS:
                process, port, path = start(kind, model)
                try:
                    for clients in CLIENTS:
                        found = load(kind, port, path, clients, SECONDS)
                        runs.append({"model": model, "server": kind, "round": turn, **found})
                        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
                    if os.environ.get("HALF"):
                        # Half of what the slowest of the rivals can do, so that all see the same load.
                        rate = os.environ["HALF"].split(",")[MODELS.index(model)]
                        found = load(kind, port, path, 64, SECONDS, rate=rate)
                        runs.append({"model": model, "server": kind, "round": turn, **found})
                        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
                finally:
                    stop(process)
    print(json.dumps({"cpu": cpu(), "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
