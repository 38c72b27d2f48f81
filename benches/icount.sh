#!/usr/bin/env bash
# Instructions of one allocation and one free, loop included, for pcpmalloc and its rivals: callgrind's count, as the
# difference of two loop lengths. The figures do not depend on how busy the machine is, so they are kept in the
# repository (benches/figures/icount.tsv) and a change that costs instructions shows in review.
#
# Usage: benches/icount.sh [--only ALLOCATOR] [--write | --check]
#   --write  keeps the figures in the file, in place of those of the same row and allocator
#   --check  counts pcpmalloc alone and fails where a figure is more than 2% + 1 above the file's
# PCPMALLOC_LIB names another libpcpmalloc.so than the one that is built here. Needs valgrind and gcc.
set -eEuo pipefail
trap 'echo "icount: failed in line $LINENO" >&2' ERR
cd "$(dirname "$0")/.."

kept=benches/figures/icount.tsv
target=${CARGO_TARGET_DIR:-target}
only= action=print
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=$2; shift ;;
    --write) action=write ;;
    --check) action=check only=pcpmalloc ;;
    *) sed -n '6,9s/^# //p' "$0" >&2; exit 2 ;;
  esac
  shift
done

for tool in valgrind gcc; do
  command -v "$tool" >/dev/null || { echo "skipped: icount: $tool is not installed"; exit 0; }
done
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT

wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

instructions() { # library or nothing, command...
  LD_PRELOAD=$1 valgrind --tool=callgrind --callgrind-out-file=/dev/null "${@:2}" 2>&1 | sed -n 's/.*Collected : //p'
}

# Counts a command that takes a number of rounds in place of @, and notes the figure to a tenth.
count() { # row, allocator, library or nothing, command...
  local row=$1 allocator=$2 library=$3 short long
  shift 3
  short=$(instructions "$library" "${@/#@/10000}")
  long=$(instructions "$library" "${@/#@/60000}")
  printf '%s\t%s\t%s\n' "$row" "$allocator" \
    "$(awk -v d=$((long - short)) 'BEGIN { printf "%.1f", d / 5e4 }')" | tee -a "$figures" >&2
}

count_c() { # allocator, library or nothing
  local loop
  for loop in 64 lifetimes mixed 4096 32768 262144; do
    count "C $loop" "$1" "$2" "$target/loops" "$loop" @
  done
}

c_rows() {
  local library
  gcc -O2 -fno-builtin -o "$target/loops" benches/loops.c
  if wanted pcpmalloc; then
    library=${PCPMALLOC_LIB:-}
    if [ -z "$library" ]; then
      cargo build --release --quiet --target-dir "$target" --package pcpmalloc-preload
      library=$(realpath "$target/release/libpcpmalloc.so")
    fi
    count_c pcpmalloc "$library"
  fi
  wanted glibc && count_c glibc ""
  while read -r allocator soname; do
    wanted "$allocator" || continue
    library=$(ldconfig -p | awk -v name="$soname" '$1 == name { print $NF; exit }')
    [ -n "$library" ] || { echo "skipped: $allocator: $soname is not installed" >&2; continue; }
    count_c "$allocator" "$library"
  done <<'END'
mimalloc-2.0 libmimalloc.so.2
jemalloc libjemalloc.so.2
tcmalloc libtcmalloc_minimal.so.4
END
}

# Neither snmalloc, which asks for more addresses than valgrind has, nor Google's tcmalloc, which is itself only with
# restartable sequences, which valgrind lacks.
rust_rows() {
  local rival
  wanted pcpmalloc && count_rust pcpmalloc examples/pair --package pcpmalloc --example pair
  for rival in mimalloc2 mimalloc3 rusty_alloc rpmalloc jemalloc; do
    wanted "$rival" || continue
    count_rust "$rival" rivals-pair --package rivals --bin rivals-pair --features "$rival" ||
      echo "skipped: $rival does not build" >&2
  done
}

# Counts with this repository's release profile, and with that of a program that sets nothing in its own.
count_rust() { # allocator, program, what to build...
  local fat=$target plain=$target/no-lto
  # A folder of their own: rivals' features would make cargo build the rest of the workspace anew.
  [ "$1" = pcpmalloc ] || fat=$target/rivals/build plain=$target/rivals/no-lto
  cargo build --release --quiet --target-dir "$fat" "${@:3}" || return
  CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo build --release --quiet --target-dir "$plain" "${@:3}" || return
  count "Rust 64, fat LTO" "$1" "" "$fat/release/$2" @
  count "Rust 64 at run time, no LTO" "$1" "" "$plain/release/$2" @ 64 8
}

# One line a row, one column an allocator, as they come.
table() {
  awk -F'\t' '
    !($1 in row) { row[$1]; rows[++r] = $1 }
    !($2 in column) { column[$2]; columns[++c] = $2 }
    { figure[$1, $2] = $3 }
    END {
      printf "%-28s", "instructions"
      for (j = 1; j <= c; j++) printf " %12s", columns[j]
      for (i = 1; i <= r; i++) {
        printf "\n%-28s", rows[i]
        for (j = 1; j <= c; j++) printf " %12s", ((rows[i], columns[j]) in figure ? figure[rows[i], columns[j]] : "-")
      }
      print ""
    }' "$1"
}

# Prints every figure with the kept one, and fails where one is higher than its margin.
check() {
  awk -F'\t' '
    NR == FNR { was[$1, $2] = $3; next }
    !(($1, $2) in was) { print $1 ": " $3 ", not kept yet"; next }
    {
      most = was[$1, $2] * 1.02 + 1
      print $1 ": " $3 " (kept " was[$1, $2] ")" ($3 > most ? ", WORSE" : "")
      if ($3 > most) failed = 1
    }
    END { exit failed }' "$kept" "$figures"
}

# The kept figures with those counted now in their places, and what is new at the end.
merge() {
  awk -F'\t' '
    !(($1, $2) in last) { order[++n] = $1 FS $2 }
    { last[$1, $2] = $3 }
    END { for (i = 1; i <= n; i++) { split(order[i], key); print order[i] FS last[key[1], key[2]] } }' "$kept" "$figures"
}

mkdir -p "$target"
rust_rows
c_rows
case $action in
  print) table "$figures" ;;
  write)
    mkdir -p "$(dirname "$kept")"
    touch "$kept"
    merged=$(merge)
    echo "$merged" >"$kept"
    table "$kept"
    ;;
  check) check ;;
esac
