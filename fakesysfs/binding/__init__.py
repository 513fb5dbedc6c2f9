"""The C extension: the engine as a Python type.

Owns how Python values become C ones and back, and the operations that libfuse calls. Does not own
any behaviour. It is the only place with Python.h. May use: the engine.
"""
