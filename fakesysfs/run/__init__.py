"""One command with the machine at the real paths: namespaces, processes, what is covered where,
uevents, udevd.

Owns what the kernel of the host is asked for. Does not own the machine, nor how it is put together
with the rest (instance.py). May use: machine, events, config, errors.
"""
