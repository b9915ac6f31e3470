"""Tables in Markdown of what bench/gpu.sh has measured.

usage: tables.py KIT OUT     KIT/models.json is `inception models --json`; OUT has rows.jsonl, torch.jsonl and plan.jsonl

A row: milliseconds of ours on the device alone (and from host to host), of PyTorch eager and of its fastest mode, of the
reference, and the ratios of theirs to ours: above one we are faster. Of cells measured twice the later counts.
"""
import json
import os
import sys


def rows(path):
    found = []
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass  # The line that a killed process was about to write.
    return found


def fastest(rows):
    return min(rows, key=lambda row: row["device_ms"], default=None)


def named(row):
    return f"{row['device_ms']:.2f}, {row['runtime'].removeprefix('torch ')}" if row else ""


def main(kit, out):
    with open(os.path.join(kit, "models.json")) as file:
        models = {row["name"]: row["reference"].get("latency_ms") for row in json.load(file)}
    ours, theirs = {}, {}
    environments = set()
    for row in rows(os.path.join(out, "rows.jsonl")):
        ours[row["device"], row["precision"], row["model"], row["batch"]] = row
        if "environment" in row:
            environments.add(row["environment"].get("gpu") or row["environment"].get("cpu") or "?")
    for row in rows(os.path.join(out, "torch.jsonl")):
        if "device_ms" in row:
            theirs.setdefault((row["precision"], row["model"], row["batch"]), []).append(row)
            environments.add(f"{row['gpu']}, PyTorch {row['torch']}, cuDNN {row['cudnn']}")
    print("\n".join(sorted(environments)))
    for device, precision in sorted({key[:2] for key in ours}):
        batches = sorted({key[3] for key in ours if key[:2] == (device, precision)})
        print(f"\n## {device}, {precision}: ms on the device (host to host)\n")
        tf32 = precision == "f32"
        print(f"| network | batch | ours | PyTorch eager | PyTorch's best |{' with TF32 |' if tf32 else ''} the reference's V100 "
              "| eager / ours | best / ours | V100 / ours |")
        print("|---|---|---|---|---|---|---|---|---|" + ("---|" if tf32 else ""))
        for model in models:
            for batch in batches:
                row = ours.get((device, precision, model, batch))
                if row is None:
                    continue
                reference = models[model] and dict(zip((1, 4, 8, 32), models[model][precision == "f32"])).get(batch)
                if "error" in row:
                    print(f"| {model} | {batch} | {row['error'][:60]} |")
                    continue
                own = row.get("device_ms") or row["median_ms"]
                eager = next((row for row in theirs.get((precision, model, batch), []) if row["runtime"] == "torch eager"), None)
                best = fastest(theirs.get((precision, model, batch), []))
                cells = [model, batch, f"{own:.2f} ({row['median_ms']:.2f})", f"{eager['device_ms']:.2f} ({eager['median_ms']:.2f})" if eager else "", named(best)]
                if tf32:
                    cells.append(named(fastest(theirs.get(("tf32", model, batch), []))))
                cells.append(reference or "")
                cells += [f"{value / own:.2f}" if value else "" for value in (eager and eager["device_ms"], best and best["device_ms"], reference)]
                print("| " + " | ".join(map(str, cells)) + " |")
    left = [row for row in rows(os.path.join(out, "plan.jsonl")) if row["outcome"] != "ok"]
    print("\n## Not done\n")
    for row in left:
        print(f"- {row['step']}: {row['outcome']}")
    if not left:
        print("nothing: all of the plan is done")


if __name__ == "__main__":
    main(*sys.argv[1:])
