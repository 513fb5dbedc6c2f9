#!/bin/sh
# Take memory offline: offline.sh MEBIBYTES. Exit status 1: not all of it can be taken.
set -eu
memory=/sys/devices/system/memory
wanted=$1
block_mib=$((0x$(cat $memory/block_size_bytes) >> 20))

offline() {
    for attempt in 1 2 3; do
        if echo offline 2> /dev/null > "$memory/$1/state"; then return 0; fi
    done
    return 1
}

for block in $(ls $memory | sed -n 's/^memory\([0-9]*\)$/\1/p' | sort -rn); do
    [ "$wanted" -gt 0 ] || break
    [ "$(cat $memory/memory$block/state)" = online ] || continue
    if offline "memory$block"; then
        wanted=$((wanted - block_mib))
    else
        echo "memory$block is busy" >&2
    fi
done
[ "$wanted" -le 0 ]
