"""Meters filter events by their properties, and tell them apart by them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name, empty in (("filters", "{}"), ("group_by", "[]")):
        column = sa.Column(name, postgresql.JSONB(), server_default=sa.text(f"'{empty}'"), nullable=False)
        op.add_column("meters", column, schema="catalog")
