"""What a product should let an organization do: computed from invoices, each time it is asked."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.access import Access, UnpaidInvoice, decide
from billing.errors import NotFound
from models import access_queries
from tasks.context import Context
from tasks.current_usage import used_of_product


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """`access` is full, grace, suspended or none; `until` is when it changes without a payment."""

    access: str
    until: datetime | None
    features: list[Any]
    limits: dict[str, Any]
    usage: dict[str, str]


def access(context: Context, organization_id: UUID, product_code: str) -> AccessAnswer:
    """The organization's access to one product. Raises NotFound for an unknown product."""
    with context.tenant(organization_id) as unit:
        product_id = access_queries.product_id(unit.session, product_code)
        if product_id is None:
            raise NotFound("no such product")
        held = access_queries.held_plan(unit.session, organization_id, product_id, unit.now)
        if held is None:
            return AccessAnswer("none", None, [], {}, {})
        unpaid = [
            UnpaidInvoice(first_failed_at)
            for first_failed_at in access_queries.unpaid_since(
                unit.session, organization_id, held.subscription_id
            )
        ]
        decision = decide(held.status, unpaid, unit.settings.dunning_policy, unit.now)
        if decision.access is Access.none:
            return AccessAnswer("none", None, [], {}, {})
        usage = used_of_product(unit, held.subscription_id, product_id)
    return AccessAnswer(decision.access.value, decision.until, held.features, held.limits, usage)
