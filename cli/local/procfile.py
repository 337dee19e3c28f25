"""Read a Procfile: one `name: command` per line, `$NAME`, `${NAME}` and `${NAME:-default}` replaced."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from cli.local.errors import StackError

_LINE = re.compile(r"^(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)$")
_VARIABLE = re.compile(r"\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\})")


def read_procfile(path: Path) -> dict[str, str]:
    """Process name -> command line, in the file's order. Raises StackError on a line it cannot read."""
    commands: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.match(stripped)
        if match is None or match["name"] in commands:
            raise StackError(f"{path.name} line {number}: expected one `name: command`, each name once")
        commands[match["name"]] = match["command"]
    return commands


def expand(command: str, environ: Mapping[str, str]) -> list[str]:
    """Split a command line as a shell would, then replace variables word by word.

    Replacing after splitting keeps a path with spaces one argument without quotes in the Procfile.
    Raises StackError for a variable that is neither set nor has a default.
    """

    def value(match: re.Match[str]) -> str:
        name = match["bare"] or match["braced"]
        if environ.get(name):
            return environ[name]
        if match["default"] is None:
            raise StackError(f"the Procfile uses ${name}, which is not set")
        return match["default"]

    return [_VARIABLE.sub(value, word) for word in shlex.split(command)]
