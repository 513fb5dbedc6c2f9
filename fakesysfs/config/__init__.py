"""Which machine: options, machine files and the data of kernels, architectures and presets.

Owns what may be asked for, where a value comes from, and what is said of a value that cannot be.
Does not own what a machine does. May use: errors.
"""
