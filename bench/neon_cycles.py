"""Cycles of the NEON micro-kernel's inner loops by llvm-mca, against the limit of multiply-adds.

    bench/neon_cycles.py [engine.s]

Compiles the engine to assembly for aarch64 (the environment of .ci/aarch64: RUSTC names a compiler with that target's
standard library), cuts out the inner loop of each tile, and prints a Markdown table. llvm-mca is Debian's package llvm-22;
LLVM_MCA names another one. A CPU's limit is what llvm-mca says of a block of nothing but independent multiply-adds, by an
element of a register for tiles and of whole registers for the depthwise convolution. `sudot` and `sdot` are the tiles on bytes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

TARGET = "aarch64-unknown-linux-gnu"
CPUS = ["neoverse-n1", "neoverse-v1", "apple-m1", "apple-m2"]
ITERATIONS = 200
ROWS = 6
# By an element of a register of pixels: floats, unsigned bytes by signed weights (i8mm), signed bytes (dotprod).
FORMS = {"fmla": ("4s", "s"), "sudot": ("16b", "4b"), "sdot": ("16b", "4b")}
# Three columns of a kernel's row for eight pixels and two registers of channels: multiply-adds, and registers of pixels and
# weights that are loaded.
DEPTHWISE = (48, 2 * (10 + 3))


def assembly() -> str:
    """The engine's assembly, as it is compiled in releases."""
    if len(sys.argv) > 1:
        return Path(sys.argv[1]).read_text()
    subprocess.run(
        ["cargo", "rustc", "--release", "--package", "inception-engine", "--no-default-features", "--target", TARGET,
         "--", "--emit", "asm"],
        check=True,
    )
    folder = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / TARGET / "release" / "deps"
    return max(folder.glob("inception_engine-*.s"), key=lambda path: path.stat().st_mtime).read_text()


def inner_loops(text: str):
    """The bodies of loops that hold no other label."""
    lines = [line.split("//")[0].rstrip() for line in text.splitlines()]
    labels = {}
    for number, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = number
        branch = re.match(r"\s+(?:b|b\.\w+|cbn?z|tbn?z)\s.*?(\.L\w+)$", line)
        if branch and branch[1] in labels:
            body = lines[labels[branch[1]] + 1 : number + 1]
            if not any(re.match(r"\S+:", line) for line in body):
                yield [line for line in body if line.strip() and not line.strip().startswith(".")]


def multiply_add(name: str, accumulator: str, weights: str, pixels: str) -> str:
    kind, element = FORMS[name]
    return f"{name} {accumulator}.4s, {weights}.{kind}, {pixels}.{element}[1]"


def tiles(text: str, name: str) -> dict:
    """The loop of each tile, by rows and columns: four steps of each row at a time, by the instruction `name`.

    A tile has a second loop for panels wider than itself, with an addition more for each channel; there is no such panel,
    so the shorter loop is the one that runs.
    """
    kind, element = FORMS[name]
    instruction = re.compile(rf"\b{name}\s+v\d+\.4s, v\d+\.{kind}, (v\d+)\.{element}\[\d\]")
    found = {}
    for body in inner_loops(text):
        pixels = [match[1] for line in body if (match := instruction.search(line))]
        rows = len(set(pixels))
        if not pixels or len(pixels) % (4 * rows) or len(pixels) != sum(name in line for line in body):
            continue
        key = (rows, len(pixels) // rows)
        if rows <= ROWS and key[1] in (8, 16) and (key not in found or len(body) < len(found[key])):
            found[key] = body
    return found


def depthwise(text: str) -> list:
    """The loop over a kernel's rows for neighbours inside the input: the shortest, which clips and clamps nothing."""
    loops = [
        body
        for body in inner_loops(text)
        if (sum("fmla" in line for line in body), sum(len(re.findall(r"\bq\d+", line)) for line in body)) == DEPTHWISE
        and not any(re.search(r"\.s\[|\sf(add|sub|mul|maxnm)\s", line) for line in body)
    ]
    return min(loops, key=len)


def cycles(body: list, cpu: str) -> float | None:
    """Cycles of one iteration; None where the CPU does not have an instruction."""
    command = [os.environ.get("LLVM_MCA", "llvm-mca-22"), "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    run = subprocess.run(command, input="\n".join(body), capture_output=True, text=True)
    if "instruction requires" in run.stderr:
        return None
    run.check_returncode()
    return int(re.search(r"Total Cycles:\s+(\d+)", run.stdout)[1]) / ITERATIONS


def main() -> None:
    text = assembly()
    rows = []
    for name in FORMS:
        found = tiles(text, name)
        assert (ROWS, 16) in found and (ROWS, 8) in found, f"the full tiles' loops of {name} were not found"
        shapes = sorted(found, reverse=True) if name == "fmla" else [(ROWS, 16), (ROWS, 8)]
        # Thirty independent multiply-adds.
        limit = [multiply_add(name, f"v{register}", "v30", "v31") for register in range(30)]
        rows += [(name, f"{shape[0]} x {shape[1]}", found[shape], limit) for shape in shapes]
    rows.append(("fmla", "depthwise", depthwise(text), [f"fmla v{register}.4s, v30.4s, v31.4s" for register in range(30)]))
    print("| tile | by | multiply-adds | other instructions | " + " | ".join(f"{cpu}, cycles (share of the limit)" for cpu in CPUS) + " |")
    print("|---" * (4 + len(CPUS)) + "|")
    for name, shape, body, independent in rows:
        count = sum(name in line for line in body)
        row = [shape, f"`{name}`", str(count), str(len(body) - count)]
        for cpu in CPUS:
            taken, limit = cycles(body, cpu), cycles(independent, cpu)
            if taken is None or limit is None:
                row.append("-")
                continue
            limit = round(30 / limit)
            row.append(f"{taken:.1f} ({100 * count / limit / taken:.0f} % of {limit} a cycle)")
        print("| " + " | ".join(row) + " |")


main()
