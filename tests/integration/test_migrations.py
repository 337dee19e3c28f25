"""The migrations make exactly the tables that the models describe."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from models.schema import metadata
from tests.integration.factories import fresh_database


def test_a_migrated_database_is_what_the_models_say() -> None:
    with fresh_database("migrations") as database, database.owner.connect() as connection:
        options = {"include_schemas": True, "version_table": "schema_version"}
        compared = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(compared, metadata) == []
