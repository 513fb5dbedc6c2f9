"""A real machine as input: its files are read, and a machine file is made from them.

Owns the reading of files that cannot be trusted. Does not own what a machine file means. May use:
machine, events, config, errors.
"""
