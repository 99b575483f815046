#!/usr/bin/env bash
# Setup with the Python oracles, build, all tests. Prints the seconds of both and ends with ctest's summary.
set -euo pipefail
cd "$(dirname "$0")/.."

# The same kernels on every machine. Some virtual machines announce AMX without describing its tiles, where oneDNN then faults.
export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX512_CORE_FP16}

scripts/setup.sh --dev

start=$SECONDS
cmake --preset dev
cmake --build --preset dev
echo "build: $((SECONDS - start)) s"

start=$SECONDS
status=0
ctest --preset dev -j "$(nproc)" "$@" || status=$?
echo "tests: $((SECONDS - start)) s"
exit $status
