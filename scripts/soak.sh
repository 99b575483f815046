#!/usr/bin/env bash
# 2,000 generations with reloads and 2,500 training steps in one process; fails when memory, threads or descriptors grow.
#
#   scripts/soak.sh [BUILD]     BUILD: a folder with the tests, default build/dev
set -euo pipefail
cd "$(dirname "$0")/.."
OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} TRANSFORMERS_SOAK=10 "${1:-build/dev}/tests/test_soak"
