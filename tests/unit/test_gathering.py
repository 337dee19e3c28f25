"""Who comes while a write is under way shares the next one, and nobody fails for another."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.gathering import Gathering


class Disk:
    """Writes numbers as their squares; the first write waits until it is let go. 13 cannot be written."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.begun, self.let_go = threading.Event(), threading.Event()

    def write(self, items: Sequence[int]) -> list[int]:
        first = not self.begun.is_set()
        self.begun.set()
        if first:
            self.let_go.wait(10)
        self.writes.append(list(items))
        if 13 in items:
            raise ValueError("13 cannot be written")
        return [item * item for item in items]


def gathered(disk: Disk, gathering: Gathering[int, int], items: Sequence[int]) -> list[int | None]:
    """What each of `items` gets, all given while the first write (of 1) is under way; None: it failed."""

    def give(item: int) -> int | None:
        try:
            return gathering.give(item)
        except ValueError:
            return None

    with ThreadPoolExecutor(len(items) + 1) as pool:
        first = pool.submit(give, 1)
        disk.begun.wait(10)
        rest = [pool.submit(give, item) for item in items]
        while len(gathering._waiting) < len(items):
            pass
        disk.let_go.set()
        assert first.result(10) == 1
        return [each.result(10) for each in rest]


def test_those_who_wait_share_one_write_and_each_gets_its_own_result() -> None:
    disk = Disk()
    assert gathered(disk, Gathering(disk.write), [2, 3, 4]) == [4, 9, 16]
    assert [len(write) for write in disk.writes] == [1, 3]


def test_one_that_cannot_be_written_fails_alone() -> None:
    disk = Disk()
    assert gathered(disk, Gathering(disk.write), [2, 13, 4]) == [4, None, 16]


def test_a_write_takes_no_more_than_its_bound() -> None:
    disk = Disk()
    assert gathered(disk, Gathering(disk.write, most=2), [2, 3, 4, 5, 6]) == [4, 9, 16, 25, 36]
    assert max(map(len, disk.writes)) == 2


def test_nobody_waits_for_company() -> None:
    disk = Disk()
    disk.let_go.set()
    assert Gathering(disk.write).give(7) == 49
    with pytest.raises(ValueError, match="13"):
        Gathering(disk.write).give(13)
