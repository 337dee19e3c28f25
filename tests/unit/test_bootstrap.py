"""What the bootstrap takes for installed, and which Python it is run with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli import bootstrap

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in a path with spaces whose .venv is complete."""
    root = tmp_path / "a check out"
    (root / "requirements").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (root / "requirements" / "dev.txt").write_text("one==1 \\\n    --hash=sha256:00\n")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[build-system]\nrequires = []\n[tool.setuptools]\n[tool.ruff]\n'
    )
    monkeypatch.setattr(bootstrap, "ROOT", root)
    monkeypatch.setattr(bootstrap, "VENV", root / ".venv")
    monkeypatch.setattr(bootstrap, "PYTHON", root / ".venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", root / "requirements" / "dev.txt")
    monkeypatch.setattr(bootstrap, "UNFINISHED", root / ".venv" / "installing")
    monkeypatch.setattr(bootstrap, "STAMP", root / ".venv" / "installed.json")
    bootstrap.STAMP.write_text(json.dumps(bootstrap.fingerprint()))
    return root


def test_a_complete_install_is_left_alone(checkout: Path) -> None:
    before = sorted(checkout.rglob("*"))
    assert bootstrap.main([]) == 0
    assert sorted(checkout.rglob("*")) == before


def test_an_interrupted_install_is_not_trusted(checkout: Path) -> None:
    bootstrap.UNFINISHED.touch()
    assert bootstrap.main(["--check"]) == 1


def test_other_pins_are_installed(checkout: Path) -> None:
    bootstrap.REQUIREMENTS.write_text("one==2 \\\n    --hash=sha256:00\n")
    assert bootstrap.main(["--check"]) == 1


def test_only_what_concerns_packaging_matters(checkout: Path) -> None:
    pyproject = checkout / "pyproject.toml"
    packaging = pyproject.read_text()
    pyproject.write_text(packaging + "line-length = 1\n")
    assert bootstrap.main(["--check"]) == 0
    pyproject.write_text(packaging.replace('name = "x"', 'name = "y"'))
    assert bootstrap.main(["--check"]) == 1


def test_a_checkout_that_was_moved_is_installed_anew(checkout: Path) -> None:
    stamp = json.loads(bootstrap.STAMP.read_text())
    bootstrap.STAMP.write_text(json.dumps(stamp | {"checkout": "/elsewhere"}))
    assert bootstrap.main(["--check"]) == 1


def test_a_python_that_is_gone_is_noticed(checkout: Path) -> None:
    bootstrap.PYTHON.unlink()
    bootstrap.PYTHON.symlink_to("/no/such/python")
    assert bootstrap.main(["--check"]) == 1


def make_bootstrap(folder: Path, *, programs: Path) -> "subprocess.CompletedProcess[str]":
    """Run our Makefile with only these programs on PATH, and a bootstrap that says who runs it."""
    shutil.copy(PROJECT / "Makefile", folder / "Makefile")
    (folder / "cli").mkdir()
    (folder / "cli" / "bootstrap.py").write_text("import sys; print('run by', sys.argv[0], sys.executable)\n")
    make = shutil.which("make")
    assert make is not None
    environ = {"PATH": str(programs), "HOME": str(folder)}
    return subprocess.run(
        [make, "bootstrap"], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_shim_that_fails_is_passed_over_for_a_python_that_runs(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    put(programs / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    put(programs / "python3.12", "exit 1")
    put(programs / "python3", f'exec "{os.path.realpath(sys.executable)}" "$@"')
    run = make_bootstrap(tmp_path, programs=programs)
    assert run.returncode == 0
    assert run.stdout.startswith("run by cli/bootstrap.py")
    assert run.stderr == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_without_a_python_the_message_says_what_to_do(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    put(programs / "python3", "exit 1")
    run = make_bootstrap(tmp_path, programs=programs)
    assert run.returncode != 0
    assert "Dunlin needs Python 3.11 or newer" in run.stderr
