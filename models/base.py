"""The declarative base and the column types that every table shares."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, MetaData, Numeric, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column
from uuid_utils.compat import uuid7

CATALOG, OPS, TENANT = "catalog", "ops", "tenant"
SCHEMAS = (CATALOG, OPS, TENANT)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
    }


def new_id() -> UUID:
    """A time-sorted UUIDv7: inserts stay at the right edge of every index."""
    return uuid7()


Id = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]
# A tenant table's key starts with the organization: no lookup, no foreign key and no unique
# constraint can then reach across organizations.
TenantKey = Annotated[UUID, mapped_column(primary_key=True)]
Minor = Annotated[int, mapped_column(BigInteger)]
Currency = Annotated[str, mapped_column(String(3))]
UnitPrice = Annotated[Any, mapped_column(Numeric(24, 12))]
Quantity = Annotated[Any, mapped_column(Numeric(24, 12))]
CreatedAt = Annotated[datetime, mapped_column(server_default=text("now()"))]
