#!/bin/sh
# A small agent: takes memory blocks offline, the last ones first, until SIZE (in MiB) is offline.
set -eu
memory=/sys/devices/system/memory
want=$1
block=$((0x$(cat $memory/block_size_bytes) >> 20))
for number in $(ls $memory | sed -n 's/^memory\([0-9][0-9]*\)$/\1/p' | sort -rn); do
    test "$want" -gt 0 || break
    test "$(cat $memory/memory$number/state)" = online || continue
    if echo offline 2> /dev/null > $memory/memory$number/state; then
        want=$((want - block))
    else
        echo "memory$number stays online" >&2
    fi
done
test "$want" -le 0
