"""Kernels that one run of a network launches on a GPU: a table in Markdown.

usage: kernels.py FOLDER     NAME-1.log and NAME-3.log of each network: what CubeCL's profiling logger (level "minimal")
                             said of `cargo xtask predict` with one picture and with three, with INCEPTION_GPU_GRAPH=0
"""
import re
import sys
from collections import Counter
from pathlib import Path


def launches(path):
    names = re.findall(r"^Executing (\w+)", path.read_text(), re.MULTILINE)
    # A suffix tells compilations of one kernel apart.
    return Counter(re.sub(r"_[0-9a-f]{8}$", "", name) for name in names)


def main():
    rows = {}
    for three in sorted(Path(sys.argv[1]).glob("*-3.log")):
        name = three.name.removesuffix("-3.log")
        more = launches(three)
        more.subtract(launches(three.with_name(f"{name}-1.log")))
        rows[name] = {kernel: count / 2 for kernel, count in more.items() if count > 0}
    kernels = Counter()
    for row in rows.values():
        kernels.update(row)
    kernels = [kernel for kernel, _ in kernels.most_common()]
    print(f"| network | launches | {' | '.join(kernels)} |")
    print("|---|---|" + "---|" * len(kernels))
    for name, row in rows.items():
        counts = " | ".join(f"{row[kernel]:g}" if kernel in row else "" for kernel in kernels)
        print(f"| {name} | {sum(row.values()):g} | {counts} |")


if __name__ == "__main__":
    main()
