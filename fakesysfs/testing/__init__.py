"""What tests of other projects use: a running instance in Python, conditions to wait for, and the
parts of the pytest plugin.

Owns the words of conditions (also those of the commands `wait` and `expect`), the life of an
instance that a test made, and tests that run inside one. May use everything, and pytest_plugin.py
is its entry. Does not own what an instance is (instance.py), nor how it is entered (run/).
"""
