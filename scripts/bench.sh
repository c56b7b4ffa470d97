#!/usr/bin/env bash
# Measures what Baton adds to a call of a model: direct and through Baton in one run.
# Usage: scripts/bench.sh [SECONDS A MEASUREMENT], scripts/bench.sh soak [MINUTES] to see whether its memory
# grows, scripts/bench.sh failover to see what a first candidate that says nothing adds,
# scripts/bench.sh ledger [SECONDS] [SYNC_MS] to see how many reservations a ledger makes (SYNC_MS: on a disk that
# takes so much longer to write), scripts/bench.sh limits [SECONDS] to see what a rate limit adds,
# scripts/bench.sh search [SECONDS] [PASSAGES] to see how long a search takes, or scripts/bench.sh mcp [SECONDS] to see
# what the bridge adds to a call of a tool.
set -euo pipefail
cd "$(dirname "$0")/.."

# Makes a library under which fdatasync takes SLOW_DISK_MS longer, and prints its path.
slow_disk() {
  local library="$PWD/target/slow_disk.so"
  "${CC:-cc}" -shared -fPIC -O2 -o "$library" -xc - <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
int fdatasync(int file) {
  usleep(atoi(getenv("SLOW_DISK_MS")) * 1000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
END
  echo "$library"
}

# PROFILE=dist measures what images are built with; it takes long to build.
profile="${PROFILE:-release}"
cargo build --locked --profile "$profile" --workspace --bins

echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r)"
echo "profile $profile, $(rustc --version), load before: $(cut -d' ' -f1-3 /proc/loadavg)"
case "${1:-}" in
  soak) exec "target/$profile/soak" "${2:-10}" ;;
  ledger)
    # PostgreSQL inherits it; SQLite, which does not wait for its log to be written, hardly meets it.
    if [ -n "${3:-}" ]; then export SLOW_DISK_MS="$3" LD_PRELOAD="$(slow_disk)"; fi
    exec "target/$profile/ledger" "${2:-10}"
    ;;
  limits) exec "target/$profile/limits" "${2:-5}" ;;
  mcp) exec "target/$profile/mcp" "${2:-10}" ;;
  search) exec "target/$profile/search" "${2:-10}" "${3:-100000}" ;;
  failover) exec "target/$profile/failover" ;;
  *) exec "target/$profile/bench" "${1:-5}" ;;
esac
