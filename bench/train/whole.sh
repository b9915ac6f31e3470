#!/usr/bin/env bash
# Pictures a second of `inception train --freeze none` beside PyTorch (whole.py), in alternation, on two threads; a line of each.
# usage: bench/train/whole.sh INCEPTION PYTHON DATA       (DATA has a folder for each class, with at least 160 pictures in all)
# Ours reads its pictures from disk and has them augmented; its figure is that of the second epoch, without validation.
set -euo pipefail
inception=$1 python=$2 data=$3
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
ours() { # NETWORK SIDE BATCH PICTURES RUN
    "$inception" train --model "torchvision-$1" --random-weights --crop "$2" --resize-short "$2" --threads 2 --val-share 0 \
        --data "$data" --limit "$4" --freeze none --lr 0.001 --epochs 2 --batch "$3" --to "$to/$1-$5" --json 2>"$to/log" |
        "$python" -c 'import json, sys; print("inception: '"$1 $2 $3"'", json.loads(sys.stdin.readlines()[1])["images_per_second"])' ||
        cat "$to/log"
}
while read -r network side batch pictures steps; do
    ours "$network" "$side" "$batch" "$pictures" 1
    "$python" "$(dirname "$0")/whole.py" "$network" "$side" "$batch" "$steps"
    ours "$network" "$side" "$batch" "$pictures" 2
done <<END
googlenet 96 16 160 20
inception_v3 139 8 64 16
END
