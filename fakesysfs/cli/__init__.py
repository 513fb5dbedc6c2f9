"""The command line: words that people type, and what they read.

Owns commands, options, help and printing. Does not own what a command does. May use: everything.
"""
