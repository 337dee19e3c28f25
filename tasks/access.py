"""What a product should let an organization do: computed from invoices, each time it is asked."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.access import Access, UnpaidInvoice, decide
from billing.errors import NotFound
from models import access_queries
from tasks.context import Context
from tasks.current_usage import used_by


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """`access` is full, grace, suspended or none; `until` is when it changes without a payment."""

    access: str
    until: datetime | None
    features: list[Any]
    limits: dict[str, Any]
    usage: dict[str, str]


def access(
    context: Context, organization_id: UUID, product_code: str, *, only: UUID | None = None
) -> AccessAnswer:
    """The organization's access to one product.

    Args: `only`, the one product that the asker may know of. Raises NotFound for any other, and for one that
    there is not.
    """
    with context.tenant(organization_id) as unit:
        asked = access_queries.held_plan(unit.session, organization_id, product_code, unit.now)
        if asked is None or only not in (None, asked.product_id):
            raise NotFound("no such product")
        held = asked.held
        if held is None:
            return AccessAnswer("none", None, [], {}, {})
        unpaid = [UnpaidInvoice(first_failed_at) for first_failed_at in held.unpaid_since]
        decision = decide(held.status, unpaid, unit.settings.dunning_policy, unit.now)
        if decision.access is Access.none:
            return AccessAnswer("none", None, [], {}, {})
        usage = used_by(unit, held)
    return AccessAnswer(decision.access.value, decision.until, held.features, held.limits, usage)
