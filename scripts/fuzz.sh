#!/usr/bin/env bash
# Runs every fuzz target of `fuzz/`, one after the other, on the golden corpus and what it finds on its way.
# Usage: scripts/fuzz.sh [SECONDS EACH, 60] [TARGET …]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-60}"
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || for file in fuzz/fuzz_targets/*.rs; do
  file="${file##*/}"
  targets+=("${file%.rs}")
done

# Pinned and kept outside the tree, so that it is built once.
tools="${BATON_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/baton-tools}/fuzz"
command -v cargo-fuzz >/dev/null || export PATH="$tools/bin:$PATH"
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root "$tools" cargo-fuzz@0.13.2

# The same versions as everywhere else; what only fuzzing needs is added.
cp Cargo.lock fuzz/Cargo.lock

# Seeds: what providers answer, without their heads, and what clients ask.
golden=crates/router/tests/golden
seed() { # TARGET FILE …
  local target="$1"
  mkdir -p "fuzz/corpus/$target"
  for file in "${@:2}"; do
    local name="${file##*/}"
    case "$file" in
      *.http) LC_ALL=C sed '1,/^$/d' "$file" >"fuzz/corpus/$target/$name" ;;
      *) cp "$file" "fuzz/corpus/$target/$name" ;;
    esac
  done
}
seed sse "$golden"/answers/*/stream-*.http
for dialect in openai anthropic gemini; do seed "answer_$dialect" "$golden/answers/$dialect"/*.http; done
for dialect in chat messages responses embeddings; do
  seed "request_$dialect" "$golden/requests/$dialect"/*.json
done
mkdir -p fuzz/corpus/price && echo -n 0.15 >fuzz/corpus/price/plain

mkdir -p fuzz/corpus/file_{pdf,docx,xlsx,html}
cp crates/retriever/tests/documents/*.pdf fuzz/corpus/file_pdf
unzip -p crates/retriever/tests/documents/handbook.docx word/document.xml >fuzz/corpus/file_docx/handbook
unzip -p crates/retriever/tests/documents/stock.xlsx xl/worksheets/sheet1.xml >fuzz/corpus/file_xlsx/stock

# libFuzzer asks the compiler for what only its unfinished options give; no sanitizer is needed, as there
# is no unsafe code.
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
  printf '\n== %s\n' "$target"
  cargo fuzz run --sanitizer none "$target" -- \
    -max_total_time="$seconds" -max_len=16384 -timeout=5 -rss_limit_mb=1024 \
    -dict=fuzz/json.dict -print_final_stats=1
done

echo
echo "fuzz: good"
