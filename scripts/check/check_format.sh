#!/usr/bin/env bash
# Fails where clang-format 14 would change a C++ file; with --fix changes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
formatter=$(command -v clang-format-14 || command -v clang-format)
mode=(--dry-run --Werror)
[[ "${1:-}" != --fix ]] || mode=(-i)
find include src tests \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' \) -print0 | xargs -0 "$formatter" "${mode[@]}"
