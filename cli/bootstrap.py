"""Make .venv and install everything that the hashed requirements name; do nothing when that is done.

    python cli/bootstrap.py           make or repair .venv
    python cli/bootstrap.py --check   exit 0 when there is nothing to do, 1 otherwise

Any Python from 3.11 runs it, before anything is installed: standard library only. The interpreter
that runs it is the one that .venv gets; none is ever downloaded.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"
# Present while an install runs: if one is found, that install was interrupted and cannot be trusted.
UNFINISHED = VENV / "installing"
STAMP = VENV / "installed.json"

# A system upgrade may have put another Python behind the link: then its packages are not found.
_ASK_VERSION = "import os, sys, sysconfig; p = sysconfig.get_path('purelib'); \
sys.exit(sys.version_info < (3, 11) or not os.path.isdir(p))"
_ASK_PINS = """
import importlib.metadata, sys
for line in sys.stdin:
    name, version = line.split("==")
    if importlib.metadata.version(name) != version.strip():
        sys.exit(1)
"""


def main(arguments: Sequence[str]) -> int:
    """Bring .venv up to date; returns the exit code."""
    wanted = fingerprint()
    if installed() == wanted and _usable():
        return 0
    if "--check" in arguments:
        return 1
    # Two at once (make -j, two terminals) would install over each other. The lock dies with us.
    lock = os.open(REQUIREMENTS.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed() != wanted:
            _install(wanted)
    finally:
        os.close(lock)
    return 0


def fingerprint() -> dict[str, str]:
    """What .venv depends on: the pins, how we are packaged, and where it stands (scripts name their path)."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packaging = [pyproject["project"], pyproject["build-system"], pyproject["tool"]["setuptools"]]
    return {
        "requirements": hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(),
        "project": hashlib.sha256(json.dumps(packaging).encode()).hexdigest(),
        "checkout": str(ROOT),
    }


def installed() -> dict[str, str] | None:
    """What the stamp says, or None when an install is missing, unfinished, or its interpreter is gone."""
    if UNFINISHED.exists() or not STAMP.exists() or not PYTHON.exists():
        return None
    stamp: dict[str, str] = json.loads(STAMP.read_text())
    return stamp


def _install(wanted: dict[str, str]) -> None:
    installer = _installer()
    if not _usable():
        shutil.rmtree(VENV, ignore_errors=True)
        _say(f"making .venv with Python {sys.version.split()[0]} ({sys.executable})")
        installer.make_venv()
    elif not UNFINISHED.exists() and _pins_hold():
        _say(".venv already holds every pinned version")
        _finish(installer, wanted)
        return
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    _say(f"installing {REQUIREMENTS.relative_to(ROOT)} with {installer.name} (once, about 100 MB)")
    installer.install_requirements()
    _finish(installer, wanted)


def _finish(installer: "Uv | Pip", wanted: dict[str, str]) -> None:
    UNFINISHED.touch()
    installer.install_project()
    STAMP.write_text(json.dumps(wanted))
    UNFINISHED.unlink()
    _say("installed")


def _usable() -> bool:
    """Whether there is a .venv to go on with: complete, of a Python that works and is new enough."""
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    stamp = installed()
    if stamp is not None and stamp["checkout"] != str(ROOT):
        return False
    return _succeeds([PYTHON, "-c", _ASK_VERSION])


def _pins_hold() -> bool:
    lines = REQUIREMENTS.read_text().splitlines()
    pins = [line.split(" ")[0] for line in lines if "==" in line and ";" not in line and line[0].isalnum()]
    ask = [str(PYTHON), "-c", _ASK_PINS]
    return (
        subprocess.run(ask, input="\n".join(pins), text=True, capture_output=True, check=False).returncode
        == 0
    )


class Uv:
    """Installs with uv: fast, and able to take hard links from its cache."""

    name = "uv"

    def make_venv(self) -> None:
        _run(["uv", "venv", "--quiet", "--python", sys.executable, str(VENV)])

    def install_requirements(self) -> None:
        # Compiled now: uv would leave that to the first start, which then takes seconds longer.
        _run([*self._install, "--compile-bytecode", "--require-hashes", "-r", str(REQUIREMENTS)])

    def install_project(self) -> None:
        options = ["--no-deps", "--no-build-isolation", "--config-setting", "editable_mode=compat"]
        _run([*self._install, "--quiet", *options, "-e", str(ROOT)])

    @property
    def _install(self) -> list[str]:
        return ["uv", "pip", "install", "--python", str(PYTHON)]


class Pip:
    """Installs with pip: the one in .venv, or (on a Debian without ensurepip) the one beside Python."""

    name = "pip"

    def __init__(self, *, inside: bool) -> None:
        self._inside = inside

    def make_venv(self) -> None:
        without_pip = [] if self._inside else ["--without-pip"]
        _run([sys.executable, "-m", "venv", *without_pip, str(VENV)])

    def install_requirements(self) -> None:
        _run([*self._pip, "install", "--require-hashes", "-r", str(REQUIREMENTS)])

    def install_project(self) -> None:
        options = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat"]
        _run([*self._pip, "install", "--quiet", *options, "-e", str(ROOT)])

    @property
    def _pip(self) -> list[str]:
        if _succeeds([PYTHON, "-m", "pip", "--version"]):
            return [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
        return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(PYTHON)]


def _installer() -> Uv | Pip:
    if shutil.which("uv"):
        return Uv()
    if _succeeds([sys.executable, "-c", "import ensurepip, venv"]):
        return Pip(inside=True)
    # `pip --python` came with pip 22.3.
    if _succeeds([sys.executable, "-m", "pip", "--python", sys.executable, "--version"]):
        return Pip(inside=False)
    raise SystemExit(
        f"{sys.executable} can neither make a virtual environment nor run pip.\n"
        "On Debian or Ubuntu: apt-get install python3-venv. Or put uv on PATH. Then try again."
    )


def _succeeds(command: Sequence[str | Path]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str]) -> None:
    # Never a download of Python itself; and an active environment is not the one that we mean.
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    run = subprocess.run(command, check=False, env=environ | {"UV_PYTHON_DOWNLOADS": "never"}, cwd=ROOT)
    if run.returncode != 0:
        raise SystemExit(
            f"failed ({run.returncode}): {' '.join(command)}\nRun the same command again to resume."
        )


def _say(sentence: str) -> None:
    print(f"bootstrap: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
