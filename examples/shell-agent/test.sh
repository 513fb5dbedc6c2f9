#!/bin/sh
# Each case is a machine of its own. It has two DIMMs, memory32 to memory39, which are online from the start.
set -eu
cd "$(dirname "$0")"

run() { fakesysfs run --machine two-dimms --append memhp_default_state=online_kernel "$@"; }

run -- sh -eu -c '
    ./offline.sh 256
    fakesysfs expect "blocks offline = 2" "memory39/state = offline" "memory38/state = offline"'
echo "ok: it takes the last blocks"

run -- sh -eu -c '
    fakesysfs load slab=+4K --block 39 > /dev/null
    ./offline.sh 128 2> /dev/null
    fakesysfs expect "memory39/state = online" "memory38/state = offline"'
echo "ok: it takes the next block when one is busy"

run --fault 'write memory39/state EAGAIN x2' -- sh -eu -c '
    ./offline.sh 128
    fakesysfs expect "memory39/state = offline" "blocks offline = 1"'
echo "ok: it tries again"

run --fault 'write memory*/state EBUSY' -- sh -eu -c '
    if ./offline.sh 128 2> /dev/null; then exit 1; fi
    fakesysfs expect "blocks offline = 0"'
echo "ok: it fails when nothing can be taken"
