#!/usr/bin/env bash
# Every check and measurement that needs a GPU, in at most eight minutes; writes docs/gpu/<device>.md.
#
#     scripts/gpu_check.sh [--minutes 8]
#
# PYTHON chooses the interpreter: by default .venv's, else python3. One with a CUDA build of torch is
# taken as it is, and only what it lacks is installed; else .venv is made with the pinned packages.
set -euo pipefail
cd "$(dirname "$0")/.."

sees_gpu() { "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }
has_packages() { PYTHONPATH=. "$1" -c 'import hydra, pytest, tensordict, torchrl, alignflow.cli' 2>/dev/null; }

python=${PYTHON:-.venv/bin/python}
if ! sees_gpu "$python"; then python=python3; fi
if ! sees_gpu "$python"; then
    nvidia-smi >/dev/null 2>&1 || { echo "no GPU was found: nvidia-smi does not run"; exit 1; }
    echo "no torch here sees the GPU: .venv is made with the pinned packages"
    python3 -m venv .venv
    python=.venv/bin/python
    "$python" -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
elif ! has_packages "$python"; then
    torch=$("$python" -c 'import torch; print("torch==" + torch.__version__)')
    grep -v '^\(torch\|triton\)==' constraints.txt > /tmp/constraints.$$
    echo "$torch" >> /tmp/constraints.$$
    "$python" -m pip install --quiet --constraint /tmp/constraints.$$ --editable '.[dev]'
fi
PYTHONPATH=. exec "$python" scripts/gpu_check.py "$@"
