#!/bin/sh
# Plug a DIMM; the rule has to bring its four blocks online, for each kernel.
set -eu
cd "$(dirname "$0")"

for kernel in 5.10 6.1 6.12; do
    fakesysfs run --kernel $kernel --udev --rules 80-memory-hotplug.rules -- sh -eu -c '
        fakesysfs monitor "object_add memory-backend-ram,id=m0,size=512M" \
                          "device_add pc-dimm,id=d0,memdev=m0"
        fakesysfs wait --timeout 30s "memory*/state = online" "blocks = 12"
        fakesysfs expect "memory32/valid_zones = Movable" "uevent online memory* = 4"'
    echo "ok: Linux $kernel"
done
