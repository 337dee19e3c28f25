"""Every mapped table, for the migrations: importing this module fills `Base.metadata`."""

from models import catalog, credit_notes, invoices, ops, organizations, rollups, subscriptions, usage
from models.base import Base

__all__ = [
    "catalog",
    "credit_notes",
    "invoices",
    "metadata",
    "ops",
    "organizations",
    "rollups",
    "subscriptions",
    "usage",
]

metadata = Base.metadata
