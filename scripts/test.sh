#!/usr/bin/env bash
# Setup with the Python oracles, build, all tests. Prints the build's seconds and ends with ctest's summary, which holds the tests'.
#
#   scripts/test.sh [ctest options]
set -euo pipefail
cd "$(dirname "$0")/.."

# The same kernels on every machine. Some virtual machines announce AMX without describing its tiles, where oneDNN then faults.
export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX512_CORE_FP16}

scripts/setup.sh --dev

start=$SECONDS
cmake --preset dev
cmake --build --preset dev
echo "build: $((SECONDS - start)) s"

exec ctest --preset dev -j "$(nproc)" "$@"
