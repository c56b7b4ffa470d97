#!/usr/bin/env bash
# Installs what the tests need and runs every test.
# Usage: scripts/test.sh [ARGUMENT OF CARGO TEST …]
set -euo pipefail
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() { have postgres || compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null; }

missing=()
have_postgres || missing+=(postgresql)
have redis-server || missing+=(redis-server)
have openssl || missing+=(openssl)
have git || missing+=(git)
have npm || missing+=(npm)
have cc || missing+=(gcc)
have make || missing+=(make)
# A network of a test's own, in which what leaves is counted.
have ip || missing+=(iproute2)
have unshare || missing+=(util-linux)
python3 -m venv --help >/dev/null 2>&1 || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  if ! have apt-get; then
    echo "test: install these first: ${missing[*]}" >&2
    exit 1
  fi
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
fi

# What comes out is compared here, never written anew.
export INSTA_UPDATE="${INSTA_UPDATE:-no}"

# The journeys start the programs that they test, so these are built first; with the tests, as
# both then share what they are built from.
cargo build --workspace --all-targets --locked
cargo test --workspace --locked "$@"
