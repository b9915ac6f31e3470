#!/usr/bin/env bash
# From pictures on disk to a trained classifier, beside PyTorch doing the same (head.py), on two threads; a line of each.
# usage: bench/train/transfer.sh INCEPTION PYTHON WEIGHTS DATA EPOCHS [--every-epoch]
# PYTHON has torch, torchvision and safetensors. WEIGHTS are torchvision's Inception V3. DATA has the folders train and test
# (fashion.py). With --every-epoch PyTorch's network sees each picture in each epoch; without it keeps the features, too.
set -euo pipefail
inception=$1 python=$2 weights=$3 data=$4 epochs=$5
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
start=$(date +%s.%N)
"$inception" train --model torchvision-inception_v3 --weights "$weights" --resize-short 299 --threads 2 --val-share 0 \
    --data "$data/train" --epochs "$epochs" --to "$to/run" --cache "$to/cache" >/dev/null 2>"$to/log" || cat "$to/log"
end=$(date +%s.%N)
echo "inception: $(echo "$end - $start" | bc) s, $epochs epochs; $(grep 'features of' "$to/log")"
"$inception" eval --model torchvision-inception_v3 --weights "$to/run/last.safetensors" --data "$data/test" --threads 2 --json \
    2>/dev/null | "$python" -c 'import json, sys; r = json.load(sys.stdin); print("inception:", r["top1"], "of", r["images"])'
"$python" "$(dirname "$0")/head.py" "$weights" "$data/train" "$data/test" --epochs "$epochs" "${@:6}" 2>/dev/null
