"""The host's side: memory backends, DIMMs, virtio-mem, QOM, and the monitors QMP and HMP, as QEMU
7.2 has them.

Owns QEMU's rules, words and protocols. Does not own what the guest does with a device. May use:
machine, events, config, errors.
"""
