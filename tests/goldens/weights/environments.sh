#!/usr/bin/env bash
# Makes the two Python environments in which the reference implementations and the rival runtimes live.
#   environments.sh DIR     ->  DIR/rivals (torch, torchvision, timm, onnxruntime, openvino, onnx)
#                        DIR/paddle (paddlepaddle + paddleclas, which needs an old numpy)
#                        DIR/p2o    (paddle2onnx, which needs a new one)
# Takes about five minutes and 10 GB (torch's wheel from PyPI brings its CUDA libraries along).
set -euo pipefail
dir=${1:?usage: environments.sh DIR}; mkdir -p "$dir"; cd "$dir"
[ -x rivals/bin/python ] || { python3 -m venv rivals
  rivals/bin/pip install -q torch==2.15.0 torchvision==0.29.2 timm==1.0.31 safetensors==0.8.0 \
    onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 openvino==2026.4.1; }
[ -x paddle/bin/python ] || { python3 -m venv paddle
  paddle/bin/pip install -q paddlepaddle==3.3.1; paddle/bin/pip install -q paddleclas==2.6.0 setuptools
  paddle/bin/pip install -q numpy==1.24.4; }
[ -x p2o/bin/python ] || { python3 -m venv p2o
  p2o/bin/pip install -q paddle2onnx==2.1.0 paddlepaddle==3.3.1 packaging setuptools; }
echo "ready: $dir/{rivals,paddle,p2o}"
