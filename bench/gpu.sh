#!/usr/bin/env bash
# All that docs/gpu.md wants to know of a GPU, on the machine that has it. Needs what bench/gpu-kit.sh has built, Python, a driver for
# Vulkan, and for the comparison PyTorch with timm and torchvision; no Rust and no network. bench/gpu/plan.py has the plan.
#   bench/gpu.sh KIT OUT [SECONDS]
# A try elsewhere: NETWORKS=GoogLeNet BATCHES=1 PRECISIONS=f32 bench/gpu.sh KIT OUT 300
set -euo pipefail
cd "$(dirname "$0")/.."

kit=$(realpath "${1:?usage: bench/gpu.sh KIT OUT [SECONDS]}")
out=$(realpath -m "${2:?usage: bench/gpu.sh KIT OUT [SECONDS]}")
mkdir -p "$out"

# Unpacked beside the kit, which may be read-only.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$kit" "$work/kit" <<'PYTHON'
import os, shutil, sys, tarfile
# Python before 3.11.4 knows no filters.
safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
kit, work = sys.argv[1:]
os.makedirs(work)
for name in os.listdir(kit):
    path = os.path.join(kit, name)
    if name.endswith(".tar.xz"):
        tarfile.open(path).extractall(work, **safely)
    elif os.path.isdir(path):
        shutil.copytree(path, os.path.join(work, name))
    else:
        shutil.copy(path, work)
os.makedirs(os.path.join(work, "cache"), exist_ok=True)
PYTHON

# The machine's own loader of Vulkan, or else Debian's. NVIDIA's driver may be where no loader looks.
if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    export LD_LIBRARY_PATH=$work/kit/loader${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -e "$nvidia" ] && [ ! -e /etc/vulkan/icd.d/nvidia_icd.json ] && [ ! -e /usr/share/vulkan/icd.d/nvidia_icd.json ]; then
    export VK_DRIVER_FILES=${VK_DRIVER_FILES:-$nvidia}
fi
# The runtime compiler of CUDA reads its headers; what the driver has compiled is kept while this runs.
if [ -z "${CUDA_PATH:-}" ] && [ -d /usr/local/cuda ]; then export CUDA_PATH=/usr/local/cuda; fi
export CUDA_CACHE_PATH=$work/driver CUDA_CACHE_MAXSIZE=4294967296
# Mesa wants one, and CubeCL a home for what its configuration does not name.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work} HOME=${HOME:-$work}

{ uname -a; nvidia-smi 2>&1 || echo "no nvidia-smi"; cat "$kit/versions.txt"; } > "$out/log.txt"
python3 bench/gpu/plan.py "$work/kit" "$out" "${3:-560}"
# The device tool brings eight files back.
for name in devices.json profile.md; do
    if [ -e "$out/$name" ]; then
        { echo "== $name"; cat "$out/$name"; } >> "$out/log.txt"
    fi
done
rm -f "$out/devices.json"
