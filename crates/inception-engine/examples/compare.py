"""Latency of the engine, ONNX Runtime and OpenVINO on the same threads, in alternation: medians and ratios.

usage: PYTHON compare.py BENCH_BINARY MODEL_DIR THREADS BATCH,BATCH,... MODEL [MODEL ...]

Each round gives every runtime a turn (short runs are preceded by one that does not count) and then a pause, so that
threads that still spin for the last runtime do not disturb the next. ratio = best rival's median / ours.

PRECISION=bf16 in the environment times the engine and OpenVINO in bf16; ONNX Runtime, which has f32 only on a CPU, is left
out. ROUNDS is the number of rounds.
"""
import os, subprocess, sys, time
import numpy as np
import onnxruntime as ort
import openvino as ov

bench, models, threads, batches, names = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5:]
rounds = int(os.environ.get("ROUNDS", "5"))
precision = os.environ.get("PRECISION", "f32")  # `bench serve` reads it too
ort.set_default_logger_severity(3)
core = ov.Core()
engine = subprocess.Popen([bench, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ours(name, batch, runs):
    warm = 1 if batch < 8 else 0
    engine.stdin.write(f"{name} {threads} {batch} {runs + warm}\n")
    engine.stdin.flush()
    return [float(t) for t in engine.stdout.readline().split()][warm:]


def times(run, runs):
    if batch < 8:
        run()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        spent.append((time.perf_counter() - start) * 1e3)
    return spent


for name in names:
    file = f"{models}/{name}.onnx"
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    node = session.get_inputs()[0]
    for batch in [int(b) for b in batches.split(",")]:
        x = np.random.randn(batch, *node.shape[1:]).astype(np.float32)
        model = core.read_model(file)
        model.reshape([batch, *node.shape[1:]])
        config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads)}
        request = core.compile_model(model, "CPU", config).create_infer_request()
        runs = max(1, 4 // batch)
        turns = {
            "engine": lambda runs: ours(name, batch, runs),
            "onnxruntime": lambda runs: times(lambda: session.run(None, {node.name: x}), runs),
            "openvino": lambda runs: times(lambda: request.infer({0: x}), runs),
        }
        if precision != "f32":
            del turns["onnxruntime"]
        # The first run of each is not counted at any batch: it allocates.
        spent = {runtime: turn(1) and [] for runtime, turn in turns.items()}
        for _ in range(rounds):
            for runtime, turn in turns.items():
                spent[runtime] += turn(runs)
                time.sleep(0.1)
        median = {k: float(np.median(v)) for k, v in spent.items()}
        ratio = min(v for k, v in median.items() if k != "engine") / median["engine"]
        row = ", ".join(f"{k} {v:.2f}" for k, v in median.items())
        print(f"{name} {precision} threads {threads} batch {batch}: {row}, ratio {ratio:.3f}", flush=True)
