#!/usr/bin/env bash
# Makes the Python environments in which the reference implementations and the rival runtimes live.
#   environments.sh DIR [NAME...]    all, or those named, as far as they are not there yet
#     rivals   torch, torchvision, timm, safetensors, onnx, onnxruntime, openvino
#     paddle   paddlepaddle and paddleclas, which needs an old numpy
#     p2o      paddle2onnx, which needs a new one
#     keras    Keras 3 and h5py; torch and NumPy are those of rivals
#     keras2   TensorFlow 2.15, the last whose Keras is 2, for small files only; not among all
# Takes about five minutes and 10 GB (torch's wheel from PyPI brings its CUDA libraries along).
set -euo pipefail
dir=${1:?usage: environments.sh DIR [NAME...]}; shift; mkdir -p "$dir"; cd "$dir"
[ $# -gt 0 ] || set -- rivals paddle p2o keras

# Each call of pip after the first changes what an earlier one has brought along.
install() { "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"; }
make_rivals() {
  install rivals torch==2.15.0 torchvision==0.29.2 timm==1.0.31 safetensors==0.8.0 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0 openvino==2026.4.1
}
make_paddle() {
  install paddle paddlepaddle==3.3.1; install paddle paddleclas==2.6.0 setuptools; install paddle numpy==1.24.4
}
make_p2o() { install p2o paddle2onnx==2.1.0 paddlepaddle==3.3.1 packaging setuptools; }

make_keras() {
  (cd rivals && echo "$PWD"/lib/python3.*/site-packages) > "$(echo keras/lib/python3.*/site-packages)/rivals.pth"
  install keras keras==3.15.1 h5py==3.16.0
}
make_keras2() { install keras2 tensorflow-cpu==2.15.1; }

for name; do
  # The mark is set last, so that an environment that was broken off is made anew.
  [ -e "$name/ready" ] || { rm -rf "$name"; python3 -m venv "$name"; "make_$name"; touch "$name/ready"; }
  echo "ready: $dir/$name"
done
