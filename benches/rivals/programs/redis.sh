#!/usr/bin/env bash
# A redis-server with the preloaded allocator, driven by redis-benchmark without it, over a socket of its own. Prints
# the server's CPU time and peak of memory and the benchmark's wall time, in the form of the workloads' own lines.
set -euo pipefail
library=${LD_PRELOAD:-}
unset LD_PRELOAD
folder=$(mktemp -d)
socket=$folder/socket

# Not stopped by its name or port: only the server that was started here.
LD_PRELOAD=$library redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no --dir "$folder" \
  >"$folder/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server || true; rm -rf "$folder"' EXIT
until redis-cli -s "$socket" ping >/dev/null 2>&1; do
  kill -0 $server || { cat "$folder/log" >&2; exit 1; }
  sleep 0.01
done

# The server's CPU time so far, in ns.
cpu_time() {
  redis-cli -s "$socket" info cpu | tr -d '\r' |
    awk -F: '/^used_cpu_(sys|user):/ { seconds += $2 } END { printf "%d", seconds * 1e9 }'
}
drive() { redis-benchmark -s "$socket" -q -r 50000 "$@" >/dev/null; }

cpu=$(cpu_time) wall=$EPOCHREALTIME
drive -n 30000 -c 20 -P 16 -d 200 -t set,get,lpush,lpop,sadd,hset,zadd,mset
drive -n 3000 -c 10 -P 4 -d 10000 -t set,get,lpush,lpop
redis-cli -s "$socket" flushall >/dev/null
end=$EPOCHREALTIME
peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$server/status")
# EPOCHREALTIME counts microseconds, behind a point or a comma.
echo "cpu_ns=$(($(cpu_time) - cpu)) wall_ns=$(((${end/[.,]/} - ${wall/[.,]/}) * 1000)) peak_kib=$peak work=1"
