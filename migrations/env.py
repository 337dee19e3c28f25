"""Alembic's entry: migrations run on the connection that `models.migrate.upgrade` hands over."""

from alembic import context

from models.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    include_schemas=True,
    version_table="schema_version",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
