"""The migrations make exactly the tables that the models describe."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from models import migrate
from models.schema import metadata
from tests.integration.factories import fresh_database


def test_a_migrated_database_is_what_the_models_say() -> None:
    with fresh_database("migrations") as database, database.owner.connect() as connection:
        options = {"include_schemas": True, "version_table": "schema_version"}
        compared = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(compared, metadata) == []


_ORGANIZATION = "01900000-0000-7000-8000-000000000001"


def test_notes_that_were_rows_of_stripes_get_numbers_of_ours() -> None:
    with fresh_database("migrating_notes", to="0010") as database:
        with database.owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(
                text(
                    "INSERT INTO catalog.organizations (id, slug, name, email, currency, tax_exempt) "
                    "VALUES (:id, 'acme', 'Acme', 'a@acme.example', 'USD', 'none')"
                ),
                {"id": _ORGANIZATION},
            )
            for number, way, voided in (
                ("I-CN-01", "refund", None),
                ("I-CN-02", "reduces_due", "2026-01-03Z"),
            ):
                connection.execute(
                    text(
                        "INSERT INTO tenant.credit_notes (organization_id, id, invoice_id, number, currency, "
                        "amount_minor, settlement, reason, stripe_credit_note_id, created_at, voided_at) "
                        "VALUES (:id, gen_random_uuid(), :id, :number, 'USD', 500, :way, 'r', :number, "
                        "CAST('2026-01-02Z' AS timestamptz), CAST(:voided AS timestamptz))"
                    ),
                    {"id": _ORGANIZATION, "number": number, "way": way, "voided": voided},
                )
        url = database.owner.url.set(drivername="postgresql").render_as_string(hide_password=False)
        migrate.upgrade(url, None, None)

        with database.owner.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT key, stripe_number, state, refund_minor, reduces_due_minor "
                    "FROM tenant.credit_notes ORDER BY stripe_number"
                )
            )
            assert [tuple(row) for row in rows] == [
                ("stripe:I-CN-01", "I-CN-01", "issued", 500, 0),
                ("stripe:I-CN-02", "I-CN-02", "void", 0, 500),
            ]
            numbers = connection.execute(text("SELECT number FROM tenant.credit_notes ORDER BY 1")).scalars()
            assert list(numbers) == ["ACME-CN-000001", "ACME-CN-000002"]
            last = connection.execute(text("SELECT last_number FROM tenant.credit_note_sequences"))
            assert last.scalar_one() == 2
