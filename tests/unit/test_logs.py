"""Logs have a limit, and their ends are what a person is shown."""

import os
from pathlib import Path

import pytest

from cli.local import process


def test_an_overgrown_log_moves_aside_and_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LOG_LIMIT_BYTES", 10)
    log = tmp_path / "web.log"
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(writer, b"more than ten bytes\n")
    process.bound_log(log)
    os.write(writer, b"after\n")
    os.close(writer)
    assert log.read_text() == "after\n"
    assert (tmp_path / "web.log.1").read_text() == "more than ten bytes\n"


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("a line\n")
    process.bound_log(log)
    assert list(tmp_path.iterdir()) == [log]
    assert log.read_text() == "a line\n"


def test_the_end_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert process.last_lines(log, 2) == "line 9998\nline 9999"
    assert process.last_lines(tmp_path / "none.log") == ""
