"""What other devices and precisions do to logits: a table in Markdown.

usage: logits.py REFERENCE OTHER...     outputs of `cargo xtask predict --with-logits --json`
"""
import json
import sys
from pathlib import Path


def read(path):
    rows = map(json.loads, Path(path).read_text().splitlines())
    return {(row["model"], row["image"]): row["logits"] for row in rows}


def top(logits, count):
    return sorted(range(len(logits)), key=lambda i: -logits[i])[:count]


def main():
    reference = read(sys.argv[1])
    print("| run | network | worst logit, of the largest | first class equal | first five shared |")
    print("|---|---|---|---|---|")
    for path in sys.argv[2:]:
        other = read(path)
        for model in sorted({model for model, _ in other}):
            pairs = [(reference[key], other[key]) for key in other if key[0] == model]
            worst = max(max(abs(a - b) for a, b in zip(r, o)) / max(map(abs, r)) for r, o in pairs)
            first = sum(top(r, 1) == top(o, 1) for r, o in pairs)
            five = sum(len(set(top(r, 5)) & set(top(o, 5))) for r, o in pairs)
            name = Path(path).stem.removeprefix("logits-")
            print(f"| {name} | {model} | {worst:.1e} | {first} of {len(pairs)} | {five} of {5 * len(pairs)} |")


if __name__ == "__main__":
    main()
