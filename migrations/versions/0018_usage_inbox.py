"""A usage POST's row costs less: its product is its key's, so nothing is looked up, and few have a key to index."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"

_UNIQUE = "uq_usage_inbox_product_id_idempotency_key"
_FOREIGN = "fk_usage_inbox_product_id"


def upgrade() -> None:
    op.drop_constraint(_FOREIGN, "usage_inbox", schema="ops")
    op.drop_constraint(_UNIQUE, "usage_inbox", schema="ops")
    op.create_index(
        _UNIQUE,
        "usage_inbox",
        ["product_id", "idempotency_key"],
        unique=True,
        schema="ops",
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(_UNIQUE, "usage_inbox", schema="ops")
    op.create_unique_constraint(_UNIQUE, "usage_inbox", ["product_id", "idempotency_key"], schema="ops")
    op.create_foreign_key(
        _FOREIGN,
        "usage_inbox",
        "products",
        ["product_id"],
        ["id"],
        source_schema="ops",
        referent_schema="catalog",
    )
