"""A launcher of its own process, so that a test can kill it: `launch.py STATE_DIR [PROJECT]`.

Prints a line of JSON when the stack is ready: its environment and the warden's pid.
"""

import json
import os
import sys
import threading
from pathlib import Path

from cli.local.stack import LocalStack


def main() -> None:
    """Start the tiny system and stay until a signal comes."""
    stack = LocalStack(
        Path(sys.argv[1]),
        profile="test",
        fresh=False,
        processes=None,
        environ=os.environ,
        root=Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parent,
    )
    with stack:
        stack.wait_ready(60)
        print(json.dumps({"environment": stack.environment, "warden": stack.warden_pid}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
