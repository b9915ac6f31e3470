#!/usr/bin/env bash
# Builds here what bench/gpu.sh runs on a machine with a GPU that has neither Rust nor a network.
#   bench/gpu-kit.sh [FOLDER [EARLIER]]     FOLDER is .gpu-kit unless it is given
# EARLIER is what a run has brought back: its rows and its tuned kernels go into the kit, so that the next run goes on from there.
# FEATURES are the devices (vulkan,cuda). What travels with the kit is the working tree; both together have to stay below 64 MiB.
#   device tool: run(command="bench/gpu.sh .gpu-kit $OUT 560", carry=[".gpu-kit"], timeout_s=600)
set -euo pipefail
cd "$(dirname "$0")/.."

kit=$(realpath -m "${1:-.gpu-kit}")
earlier=${2:-}
features=${FEATURES:-vulkan,cuda}
: "${CARGO:=cargo}"
# CUDA's kernels are compiled by NVRTC, there; LLVM, which the build script of tracel-llvm-bundler would download, is left out.
case ,$features, in *,cuda,*)
    export DOCS_RS=1 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=$PWD/bench/gpu/open-gcc;;
esac
rm -rf "$kit"
mkdir -p "$kit/loader" "$kit/earlier"
# Nothing of it is committed.
exclude=$(git rev-parse --git-path info/exclude)
if ! grep -qx "/$(basename "$kit")/" "$exclude" 2>/dev/null; then echo "/$(basename "$kit")/" >> "$exclude"; fi

# The commands and the test of parity, of one build.
list=()
for feature in ${features//,/ }; do list+=("inception-cli/$feature" "inception-tests/$feature"); done
all=$(IFS=,; echo "${list[*]}")
$CARGO build --release --workspace --features "$all" --bin inception
test=$($CARGO test --release --workspace --features "$all" --test gpu --no-run --message-format json |
    python3 -c 'import json, sys
for line in sys.stdin:
    row = json.loads(line)
    if row.get("executable") and row["target"]["name"] == "gpu":
        print(row["executable"])')
target=${CARGO_TARGET_DIR:-target}/release
strip -o "$kit/inception" "$target/inception"
strip -o "$kit/gpu-test" "$test"
"$kit/inception" models --json > "$kit/models.json"
# Together: most of their code is the same.
tar -C "$kit" --remove-files -cf - inception gpu-test | xz --x86 --lzma2=preset=6,dict=384MiB > "$kit/programs.tar.xz"

# Vulkan's loader, and what NVIDIA's driver for it loads, from Debian.
packages=(libvulkan1 libegl1 libglvnd0 libglx0 libgl1 libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0)
(cd "$kit/loader" && apt-get download -qq "${packages[@]}" && for deb in *.deb; do dpkg-deb -x "$deb" .; done &&
    mkdir files && cp -L usr/lib/*/*.so.? files && rm -rf usr etc lib ./*.deb && mv files/* . && rmdir files)

if [ -n "$earlier" ]; then
    for name in plan.jsonl rows.jsonl plain.jsonl torch.jsonl parity.txt profile.md; do
        if [ -e "$earlier/$name" ]; then cp "$earlier/$name" "$kit/earlier"; fi
    done
    if [ -e "$earlier/cache.tar.xz" ]; then cp "$earlier/cache.tar.xz" "$kit"; fi
fi
{ echo "kit: $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' and changes'), features $features"; rustc --version;
  grep -A1 -E '^name = "(burn|cubecl|wgpu|cubek-convolution)"$' Cargo.lock | grep -v '^--' | paste - -; } > "$kit/versions.txt"

travels=$(git ls-files -co --exclude-standard -z | xargs -0 du -cb --no-dereference | awk '/total$/ { sum += $1 } END { print sum }')
size=$(du -sb "$kit" | cut -f1)
printf 'the kit %d bytes, the working tree %d, together %.1f of 64 MiB\n' "$size" "$travels" \
    "$(echo "($size + $travels) / 1048576" | bc -l)"
[ $((size + travels)) -lt $((64 * 1048576)) ]
