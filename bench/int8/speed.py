"""Time of int8: ours beside ONNX Runtime's (QDQ, per channel), OpenVINO's (NNCF) and ours in f32, in alternation, on random
weights.

usage: ENV/bin/python bench/int8/speed.py prepare INCEPTION WORK PICTURES MODEL...
       ENV/bin/python bench/int8/speed.py measure INCEPTION WORK THREADS MODEL...
`prepare` quantises each network on the pictures of the folder PICTURES and writes the same weights as ONNX, which ONNX Runtime
and NNCF quantise. `measure` gives each runtime a turn, ROUNDS times, and appends a JSON line a network to WORK/speed.jsonl: the lowest of the
medians of a cell. ENV is that of accuracy.py. INCEPTION_ISA=avx2 holds ours to AVX2, ONEDNN_MAX_CPU_ISA=AVX2 OpenVINO, and
LD_PRELOAD of what bench/without_avx512.c makes ONNX Runtime; the row says so.
"""
import json
import os
import subprocess
import sys
import time

import numpy as np
from accuracy import nncf_int8

BATCHES = [1, 8]
SECONDS = 1.0
RUNS = 3
ROUNDS = 3


def prepare(program, work, pictures, models):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    import onnx

    class Reader(CalibrationDataReader):
        def __init__(self, shape):
            self.images = iter([np.random.default_rng(0).standard_normal((1, *shape), np.float32)])

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"images": image}

    os.makedirs(work, exist_ok=True)
    for model in models:
        start, base = time.time(), f"{work}/{model}"
        subprocess.run([program, "quantize", "--model", model, "--random-weights", "--data", pictures, "--limit", "2", "--to", base + ".safetensors", "--json"], check=True, capture_output=True)
        subprocess.run([program, "convert", "--model", model, "--from", base + ".safetensors", "--to", base + ".onnx"], check=True, capture_output=True)
        shape = [d.dim_value for d in onnx.load(base + ".onnx").graph.input[0].type.tensor_type.shape.dim][1:]
        quant_pre_process(base + ".onnx", f"{work}/prepared.onnx")
        quantize_static(f"{work}/prepared.onnx", base + ".qdq.onnx", Reader(shape), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        nncf_int8(base + ".onnx", np.random.default_rng(0).standard_normal((1, *shape), np.float32), work)
        for end in ["xml", "bin"]:
            os.replace(f"{work}/nncf.{end}", f"{base}.nncf.{end}")
        sizes = [os.path.getsize(base + end) / 1e6 for end in [".onnx", ".safetensors", ".qdq.onnx"]]
        os.remove(base + ".onnx")
        print(f"{model}: f32 {sizes[0]:.1f} MB, ours {sizes[1]:.1f} MB, QDQ {sizes[2]:.1f} MB, {time.time() - start:.0f} s", flush=True)


def ours(program, model, precision, threads):
    command = [program, "bench", "--model", model, "--precision", precision, "--batch", ",".join(map(str, BATCHES)), "--threads", str(threads)]
    out = subprocess.run([*command, "--seconds", str(SECONDS), "--runs", str(RUNS), "--json"], check=True, capture_output=True, text=True).stdout
    return [(row["median_ms"], row["peak_memory_mb"]) for row in json.loads(out)]


def onnxruntime_ms(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape, times = session.get_inputs()[0].shape[1:], []
    for batch in BATCHES:
        images = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
        session.run(None, {"images": images})
        runs, start = [], time.perf_counter()
        while len(runs) < RUNS or time.perf_counter() - start < SECONDS:
            began = time.perf_counter()
            session.run(None, {"images": images})
            runs.append((time.perf_counter() - began) * 1e3)
        times.append(float(np.median(runs)))
    return times


def openvino_ms(path, threads):
    import openvino

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", config)
    shape, times = [d.get_length() for d in list(compiled.input(0).partial_shape)[1:]], []
    request = compiled.create_infer_request()
    for batch in BATCHES:
        images = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
        for _ in range(2):
            request.infer([images])
        runs, start = [], time.perf_counter()
        while len(runs) < RUNS or time.perf_counter() - start < SECONDS:
            began = time.perf_counter()
            request.infer([images])
            runs.append((time.perf_counter() - began) * 1e3)
        times.append(float(np.median(runs)))
    return times


def measure(program, work, threads, models):
    for model in models:
        rounds = []
        for _ in range(ROUNDS):
            int8, rival, f32 = ours(program, model, "int8", threads), onnxruntime_ms(f"{work}/{model}.qdq.onnx", threads), ours(program, model, "f32", threads)
            openvino = openvino_ms(f"{work}/{model}.nncf.xml", threads)
            rounds.append([[ms for ms, _ in int8], rival, [ms for ms, _ in f32], openvino])
        best = np.min(rounds, axis=0)
        row = {"model": model, "threads": threads, "batches": BATCHES, "int8_ms": best[0].tolist(), "onnxruntime_ms": best[1].tolist(), "f32_ms": best[2].tolist(), "openvino_ms": best[3].tolist(), "isa": os.environ.get("INCEPTION_ISA", "")}
        row |= {"rounds": rounds, "int8_mb": [mb for _, mb in int8], "f32_mb": [mb for _, mb in f32]}
        with open(f"{work}/speed.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(model, *(f"{name} {best[i].round(1).tolist()}" for i, name in enumerate(["int8", "ONNX Runtime", "f32", "OpenVINO"])), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:5], sys.argv[5:])
    else:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
