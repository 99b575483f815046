#!/usr/bin/env bash
# Makes a machine ready: Debian packages that are missing, and a Python environment with LibTorch in .venv.
#
#   scripts/setup.sh         what building and running on a CPU takes (0.55 GB to fetch, 1.2 GB on disk)
#   scripts/setup.sh --dev   adds what the tests' Python oracles and torchrun take (4.5 GB on disk)
#
# Repeating it is quick and changes nothing; --dev after the small set adds to the same environment.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  g++ cmake ninja-build ccache pkg-config python3 python3-venv
  nlohmann-json3-dev libsentencepiece-dev libpcre2-dev libutf8proc-dev libcli11-dev
  libgtest-dev libgmock-dev clang-format-14
)

say() { echo "setup: $*" >&2; }

missing_packages() {
  for package in "${packages[@]}"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || echo "$package"
  done
}

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "no Debian package manager here; these must be present: ${packages[*]}"
    return
  fi
  local missing as_root=()
  mapfile -t missing < <(missing_packages)
  [[ ${#missing[@]} -eq 0 ]] && return
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# The stamp holds the requirements that were installed, so that a repeat need not even start pip.
install_python() {
  local set=$1 stamp=".venv/.installed-$1"
  shift
  local wanted
  wanted=$(cat scripts/requirements*.txt)
  [[ -f $stamp && "$(<"$stamp")" == "$wanted" ]] && return
  say "installing the $set set of Python packages into .venv"
  [[ -x .venv/bin/python ]] || python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" >&2
  printf '%s\n' "$wanted" >"$stamp"
}

case "${1:-}" in
  "" | --dev) ;;
  *) echo "usage: scripts/setup.sh [--dev]" >&2 && exit 2 ;;
esac

install_packages
install_python small --no-deps -r scripts/requirements.txt
if [[ "${1:-}" == --dev ]]; then
  install_python dev -r scripts/requirements-dev.txt
fi
