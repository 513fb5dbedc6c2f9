"""One command inside an instance, for Hotplug.run(): as `fakesysfs exec`, and started twice as
fast.

    python -m fakesysfs.testing.enter NAME COMMAND...
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run a command in the instance of that name, and return its exit status."""
    from ..control import Client, environment, is_own
    from ..errors import FakesysfsError
    from ..run.enter_instance import execute

    name, *command = arguments
    try:
        client = Client(name)
        namespaces = client.descriptors("namespaces")
        client.close()
        return execute(namespaces, command, environment(name), is_own)
    except FakesysfsError as e:
        print(f"fakesysfs: {e}", file=sys.stderr)
        return e.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
