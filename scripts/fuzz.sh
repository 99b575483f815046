#!/usr/bin/env bash
# Builds the fuzz targets (tests/fuzz) with clang 14 under the address and undefined-behaviour sanitizers and runs them
# in turns on one core, each for the same time.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]     all of it together, the build not counted; 600 when nothing is said
#
# Corpora grow in build/fuzz/corpora from run to run. Inputs that crash, hang or take too much memory lie in
# build/fuzz/found/TARGET beside the logs of their runs. After each round build/fuzz/report.txt has, and at the end stdout
# gets, a line a target and one for all: executions of all runs so far, covered edges, inputs, findings. Ends with status 1
# while there are findings. `build/fuzz/fuzz/fuzz_TARGET FILE` repeats one; a repaired one goes to tests/fuzz/found/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
shift || true
build=build/fuzz
shortest=10 longest=90  # seconds of one turn

if ! command -v clang++-14 >/dev/null || ! ls /usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a >/dev/null 2>&1; then
  echo "fuzz: clang 14 and its runtime libraries are needed: apt-get install clang-14 libclang-rt-14-dev" >&2
  exit 2
fi

cmake --preset fuzz >&2
cmake --build --preset fuzz >&2
mkdir -p "$build"/{corpora,found,logs,executions}

# Forms of input, for the dictionary and the length of those that have none of their own.
declare -A change_of=()
while read -r target change; do
  change_of[$target]=$change
done <"$build/fuzz/targets.txt"
targets=("$@")
[[ $# -gt 0 ]] || mapfile -t targets < <(cut -d' ' -f1 "$build/fuzz/targets.txt")

dictionary_of() {
  local own=tests/fuzz/dictionaries/$1.dict
  [[ -f $own ]] && echo "$own" || echo "tests/fuzz/dictionaries/${change_of[$1]}.dict"
}

longest_input_of() {
  case "${change_of[$1]}" in
    zip | bytes | adapter_folder) echo 4096 ;;
    *) echo 1024 ;;
  esac
}

# One process of libFuzzer; it ends early when it finds something. With -entropic=1 up to half of its time went into
# counting how rare each feature is, for the same coverage.
run_once() {
  local target=$1 time=$2 log=$build/logs/$1
  mkdir -p "$build/corpora/$target" "$build/found/$target"
  OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0:malloc_context_size=4:quarantine_size_mb=16:allocator_may_return_null=1 \
    "$build/fuzz/fuzz_$target" -max_total_time="$time" -timeout=10 -rss_limit_mb=1536 -malloc_limit_mb=256 \
    -max_len="$(longest_input_of "$target")" -dict="$(dictionary_of "$target")" -detect_leaks=0 -reload=0 \
    -print_final_stats=1 -entropic=0 -artifact_prefix="$build/found/$target/" "$build/corpora/$target" "tests/fuzz/seeds/$target" \
    >"$log" 2>&1 || cp "$log" "$build/found/$target/log-$(date +%s)"
  sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1 >>"$build/executions/$target"
  local edges
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
  [[ -z $edges ]] || echo "$edges" >"$build/logs/$target.edges"
}

run_turn() {
  local target=$1 deadline=$((SECONDS + $2))
  while ((SECONDS < deadline)); do
    run_once "$target" $((deadline - SECONDS))
  done
}

report() {
  local all=0 finds=0 target runs count
  for target in "${targets[@]}"; do
    runs=$(awk '{ sum += $1 } END { printf "%d", sum }' "$build/executions/$target" 2>/dev/null || echo 0)
    count=$(find "$build/found/$target" -type f ! -name 'log-*' 2>/dev/null | wc -l)
    printf '%-20s %11d executions %6s edges %5d inputs %3d findings\n' "$target" "$runs" \
      "$(cat "$build/logs/$target.edges" 2>/dev/null || echo 0)" \
      "$(find "$build/corpora/$target" -type f 2>/dev/null | wc -l)" "$count"
    all=$((all + runs)) finds=$((finds + count))
  done
  printf '%-20s %11d executions %d findings\n' all "$all" "$finds"
  [[ $finds -eq 0 ]]
}

end=$((SECONDS + seconds))
while ((SECONDS < end)); do
  turn=$(((end - SECONDS) / ${#targets[@]}))
  turn=$((turn < shortest ? shortest : turn > longest ? longest : turn))
  for target in "${targets[@]}"; do
    ((SECONDS < end)) || break
    run_turn "$target" $((turn < end - SECONDS ? turn : end - SECONDS))
  done
  report >"$build/report.txt" || true
done
report
