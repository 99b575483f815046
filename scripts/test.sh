#!/usr/bin/env bash
# Setup with the Python oracles, build, all tests. Prints the build's seconds and ends with ctest's summary, which holds the tests'.
#
#   scripts/test.sh [ctest options]
set -euo pipefail
cd "$(dirname "$0")/.."

# The same kernels on every machine. Some virtual machines announce AMX without describing its tiles, where oneDNN then faults.
export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX512_CORE_FP16}

# A test a core: threads over tensors as small as the tests' would only wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

scripts/setup.sh --dev

start=$SECONDS
cmake --preset test
cmake --build --preset test
echo "build: $((SECONDS - start)) s"

exec ctest --preset test -j "$(nproc)" "$@"
