"""Options of the whole suite, and its sequence."""

from pathlib import Path

import pytest

# Their assertions are the stories' own: a failure must show both sides.
pytest.register_assert_rewrite("tests.scenarios.world", "tests.scenarios.golden")

# What waits for processes goes first: at the end, when one worker after another has nothing left to do, only
# small files are to come.
_FIRST = ("faults", "scenarios", "integration", "property")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden invoices anew")
    parser.addoption(
        "--misbehaving",
        action="store_true",
        help="tell the stories with a Stripe whose faults are at 5 %% each",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)
