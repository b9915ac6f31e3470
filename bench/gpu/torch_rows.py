"""Latency of the same networks by PyTorch on a GPU: a line of JSON for each cell, as soon as it is measured.

usage: torch_rows.py NETWORK PRECISIONS MODES BATCHES    MODES: eager, graph (the eager run captured as one CUDA graph), compile
                                                         (mode "max-autotune-no-cudagraphs", then captured)

timm's and torchvision's networks with random weights: of PaddleClas's DeepLab pair there is none. Memory is channels-last, norms are
folded by nobody but the compiler, cuDNN tries its algorithms out, f32 is f32, and tf32 has products in TF32. `device_ms`: images and
logits on the device; `median_ms`, of the eager mode: from images in memory to logits in memory. `inception bench` has both.
"""
import json
import sys
import time

THEIRS = {"GoogLeNet": "torchvision googlenet", "InceptionV3": "torchvision inception_v3", "InceptionV4": "timm inception_v4",
          "Xception41": "timm xception41", "Xception65": "timm xception65", "Xception71": "timm xception71"}
SECONDS = 0.25


def network(name):
    library, theirs = THEIRS[name].split()
    if library == "timm":
        import timm

        return timm.create_model(theirs)
    import torchvision

    return getattr(torchvision.models, theirs)(weights=None, init_weights=False, aux_logits=False)


def median(run, torch):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[len(times) // 2], len(times)


def captured(run, torch):
    """`run` as one launch."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def main(name, precisions, modes, batches):
    if name not in THEIRS:
        print(f"{name}: neither timm nor torchvision has it", file=sys.stderr)
        return
    import torch

    torch.backends.cudnn.benchmark = True
    size = 224 if name == "GoogLeNet" else 299
    where = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "network": THEIRS[name]}
    cells = [(precision, mode, int(batch)) for precision in precisions.split(",") for mode in modes.split(",") for batch in batches.split(",")]
    model = forward = None
    with torch.inference_mode():
        for precision, mode, batch in cells:
            if batch == cells[0][2]:
                # Products in TF32 are tf32's, not f32's.
                torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
                dtype = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[precision]
                torch.manual_seed(0)
                model = network(name).eval().to("cuda", dtype, memory_format=torch.channels_last)
                forward = torch.compile(model, dynamic=False, mode="max-autotune-no-cudagraphs") if mode == "compile" else model
            row = {"runtime": "torch " + mode, "model": name, "precision": precision, "batch": batch}
            try:
                host = torch.rand(batch, 3, size, size)
                images = host.to("cuda", dtype, memory_format=torch.channels_last)
                once = lambda: forward(images)
                once()
                run = once if mode == "eager" else captured(once, torch)
                device, runs = median(run, torch)

                def whole():
                    images.copy_(host.to("cuda").to(dtype, memory_format=torch.channels_last))
                    return once().float().cpu()

                row.update(device_ms=device, runs=runs, **where)
                if mode == "eager":
                    row.update(median_ms=median(whole, torch)[0])
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
