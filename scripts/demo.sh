#!/usr/bin/env bash
# From a fresh clone to text written by a real checkpoint: setup, release build, checkpoint, one chat answer and its speed.
#
#   scripts/demo.sh [prompt]
set -euo pipefail
cd "$(dirname "$0")/.."
prompt=${1:-"Explain in two sentences why the sky is blue."}

scripts/setup.sh
cmake --preset release >&2
cmake --build --preset release --target transformers-cpp >&2
.venv/bin/python scripts/data/prepare_smollm2.py
echo "> $prompt" >&2
build/release/bin/transformers-cpp generate --model models/SmolLM2-135M-Instruct --chat --prompt "$prompt" \
  --max-new-tokens 128
