"""Every mapped table, for the migrations: importing this module fills `Base.metadata`."""

from models import catalog, invoices, ops, organizations, subscriptions, usage
from models.base import Base

__all__ = ["catalog", "invoices", "metadata", "ops", "organizations", "subscriptions", "usage"]

metadata = Base.metadata
