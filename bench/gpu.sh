#!/usr/bin/env bash
# All that the documentation wants to know of a GPU, on the machine that has it: what it is, parity, both of the reference's
# tables, PyTorch beside them, what half precision costs, how many kernels run, and where the time goes. For a try elsewhere:
#   MODELS=GoogLeNet BATCHES=1 DEVICES=wgpu PRECISIONS=f32 RIVALS= PARITY=few SECONDS_A_CELL=1 bench/gpu.sh OUT
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:?usage: bench/gpu.sh FOLDER}")
devices=${DEVICES-wgpu vulkan cuda}
models=${MODELS-GoogLeNet,Xception41,Xception41_deeplab,Xception65,Xception65_deeplab,Xception71,InceptionV3,InceptionV4}
batches=${BATCHES-1,4,8,32}
precisions=${PRECISIONS-f32 f16}
rivals=${RIVALS-torch,torch-compile}
seconds=${SECONDS_A_CELL-3}
mkdir -p "$out"
# Mesa wants one.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$(mktemp -d)}

# A step that fails costs the others nothing; the last line says how many did.
failed=0
step() {
    local name=$1; shift
    echo "== $name: $*" >&2
    if ! "$@" > "$out/$name" 2> >(tee "$out/$name.log" >&2); then failed=$((failed + 1)); echo "FAILED: $name" >&2; fi
}

# How many kernels of which name a run of each network launches: what three pictures launch more than one does.
kernels() {
    local folder=$out/kernels-$1 image=$PWD/tests/images/ILSVRC2012_val_00000010.jpeg model count
    mkdir -p "$folder"
    printf '[profiling.logger]\nlevel = "minimal"\nfile = "%s/log"\n' "$folder" > "$folder/cubecl.toml"
    for model in ${models//,/ }; do
        # The first run tries kernels out.
        for count in 1 1 3; do
            rm -f "$folder/log"
            (cd "$folder" && "$xtask" predict --model "$model" --random-weights --device "$1" \
                --image $(yes "$image" | head -n "$count") > /dev/null)
            mv "$folder/log" "$folder/$model-$count.log"
        done
    done
    python3 bench/kernels.py "$folder"
}

features=$(printf 'xtask/%s,' $devices)
cargo build --release --workspace --features "${features%,}"
xtask=$(realpath "${CARGO_TARGET_DIR:-target}/release/xtask")

# Every network against PaddleClas, on the adapter that Burn prefers.
if [[ " $devices " == *" wgpu "* ]]; then
    step parity.txt env INCEPTION_GPU_NETWORKS="${PARITY-all}" cargo test --release --workspace \
        --features "${features%,},inception-tests/wgpu" --test gpu -- --nocapture
fi
step devices.json "$xtask" devices --json
for device in $devices; do
    for precision in $precisions; do
        on=(--device "$device" --precision "$precision")
        cell=$device-$precision
        # The second run shows what the kept tuning saves.
        step "first-start-$cell.txt" bash -c "time '$xtask' predict --model GoogLeNet --random-weights --image \
            tests/images/ILSVRC2012_val_00000010.jpeg ${on[*]}"
        step "second-start-$cell.txt" bash -c "time '$xtask' predict --model GoogLeNet --random-weights --image \
            tests/images/ILSVRC2012_val_00000010.jpeg ${on[*]}"
        # Logits of the photographs, to compare half precision with single and both with flex. (Random weights let Xception71
        # overflow in f16; parity.txt has it with weights that do not.)
        comparable=$models
        [ "$precision" = f32 ] || comparable=$(tr , '\n' <<< "$models" | grep -v Xception71 | paste -sd ,)
        step "logits-$cell.json" "$xtask" predict --model "$comparable" --random-weights --image tests/images/*.jpeg \
            "${on[@]}" --with-logits --json
        step "bench-$cell.json" "$xtask" bench --model "$models" --batch "$batches" "${on[@]}" \
            --seconds "$seconds" --json
        if [ -n "$rivals" ]; then
            step "rivals-$cell.txt" "$xtask" rivals --model "$models" --batch "$batches" "${on[@]}" \
                --rival "$rivals" --out "$out/rivals-$device"
        fi
    done
    step "kernels-$device.md" kernels "$device"
    # Kernels launched and the time of each, by the backend's own profiler.
    step "profile-$device.txt" env CUBECL_DEBUG_OPTION=profile-medium CUBECL_DEBUG_LOG=stdout "$xtask" \
        predict --model GoogLeNet --random-weights --image tests/images/ILSVRC2012_val_00000010.jpeg --device "$device"
done
step logits-flex.json "$xtask" predict --model "$models" --random-weights --image tests/images/*.jpeg \
    --device flex --with-logits --json
step accuracy.md python3 bench/logits.py "$out/logits-flex.json" "$out"/logits-*-*.json
for file in "$out"/bench-*.json; do
    step "$(basename "$file" .json).md" "$xtask" bench --table "$file"
done
echo "$failed steps failed; results in $out" >&2
[ "$failed" = 0 ]
