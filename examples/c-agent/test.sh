#!/bin/sh
# Build the agent, start it in a machine, plug a DIMM.
set -eu
source=$(cd "$(dirname "$0")" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -o agent "$source/agent.c"

machine='
    ./agent > said &
    until grep -q ready said; do sleep 0.01; done
    fakesysfs monitor "object_add memory-backend-ram,id=m0,size=512M" \
                      "device_add pc-dimm,id=d0,memdev=m0"
    fakesysfs wait --timeout 30s "memory*/state = online" "blocks = 12"
    fakesysfs expect "memory32/valid_zones = Movable"'

fakesysfs run -- sh -eu -c "$machine"
echo "ok: new blocks go online"

fakesysfs run --fault 'write memory33/state EBUSY x3' -- sh -eu -c "$machine"
echo "ok: it tries again"
