#!/usr/bin/env bash
# Peak memory, wall time and CPU time of small programs, without the library and with it: medians of interleaved
# runs. Usage: benches/footprint.sh [runs, 21 by default]. Needs GNU time (Debian's package "time") and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-21}
cargo build --release --quiet --package pcpmalloc-preload
library=$PWD/target/release/libpcpmalloc.so
python=$(python3 -c 'import sys; print(sys.executable)')
json="import json; d = [{'a': i, 'b': [str(j) for j in range(10)]} for i in range(20000)]; json.loads(json.dumps(d))"
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT

# One line a run: program, allocator, KiB, seconds of wall time, seconds of CPU time.
measure() { # name, allocator, command...
  LD_PRELOAD=$([ "$2" = glibc ] || echo "$library") PYTHONMALLOC=malloc \
    /usr/bin/time --append --output="$figures" --format="$1 $2 %M %e %U %S" "${@:3}" >/dev/null
}
for _ in $(seq "$runs"); do
  for allocator in glibc pcpmalloc; do
    measure true "$allocator" /bin/true
    measure ls "$allocator" /bin/ls /
    measure python-pass "$allocator" "$python" -c pass
    measure python-json "$allocator" "$python" -c "$json"
  done
done
printf '%-12s %-10s %10s %10s %10s\n' program allocator 'peak KiB' 'wall s' 'CPU s'
for program in true ls python-pass python-json; do
  for allocator in glibc pcpmalloc; do
    median() { # awk's number of the column, or a sum of two
      awk -v p="$program" -v a="$allocator" '$1 == p && $2 == a { print '"$1"' }' "$figures" | sort -n |
        awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
    }
    printf '%-12s %-10s %10s %10s %10s\n' "$program" "$allocator" "$(median '$3')" "$(median '$4')" "$(median '$5 + $6')"
  done
done
