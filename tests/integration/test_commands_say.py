"""What may be expected to go wrong with a command ends in one line, without a stack trace."""

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.integration.factories import fresh_database


def test_a_schema_of_another_version_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database("behind", to="0004") as database:
        monkeypatch.setenv("DATABASE_URL", database.app_url)
        monkeypatch.setenv("DATABASE_AUDITOR_URL", database.auditor_url)
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
        for name in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "SECRET_KEY", "KEY_PEPPER"):
            monkeypatch.setenv(name, "sk_test_1")

        said = CliRunner().invoke(main, ["invoices", "parked"])

    assert said.exit_code == 1
    assert said.output == "Error: the database's schema is not this version's: run `dunlin migrate` first\n"
