"""Options of the whole suite."""

import pytest

# Their assertions are the stories' own: a failure must show both sides.
pytest.register_assert_rewrite("tests.scenarios.world", "tests.scenarios.golden")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden invoices anew")
    parser.addoption(
        "--misbehaving",
        action="store_true",
        help="tell the stories with a Stripe whose faults are at 5 %% each",
    )
