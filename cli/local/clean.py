"""Remove what a state directory keeps outside of itself: `python -m cli.local.clean DIRECTORY`."""

import shutil
import sys
from pathlib import Path

from cli.local.errors import StackError
from cli.local.identity import stand_in
from cli.local.locking import is_locked


def clean(directory: Path) -> None:
    """Remove the stand-ins of every state directory below `directory`. Raises StackError if one runs."""
    for credentials in directory.rglob("secrets.json"):
        if is_locked(credentials.parent):
            raise StackError(f"something runs in {credentials.parent}; stop it first")
        shutil.rmtree(stand_in(credentials.with_name("postgres")), ignore_errors=True)


if __name__ == "__main__":
    try:
        clean(Path(sys.argv[1]))
    except StackError as refusal:
        sys.exit(str(refusal))
