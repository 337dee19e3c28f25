"""Quarantine and conflicts: what is held back and why; out by command, or when the cause is repaired."""

from uuid import UUID

from billing.errors import NotFound
from models import quarantine, reading, usage_intake
from models.quarantine import ConflictRow, QuarantineGroup
from models.reading import Page
from tasks import adjusting
from tasks.context import Context
from tasks.organizations import resolve


def held(
    context: Context,
    *,
    organization: str | None = None,
    product: str | None = None,
    reason: str | None = None,
) -> list[QuarantineGroup]:
    """Who has how much usage in quarantine and why, the most first. Raises NotFound."""
    organization_id, product_id = _named(context, organization, product)
    with context.auditor.system() as session:
        return quarantine.groups(
            session, organization_id=organization_id, product_id=product_id, reason=reason
        )


def conflicts(
    context: Context, page: Page, *, organization_id: UUID | None = None, product_id: UUID | None = None
) -> tuple[list[ConflictRow], UUID | None]:
    """One page of event ids that came with two contents, the newest first, and the next page's cursor."""
    with context.auditor.system() as session:
        found = quarantine.conflicts(
            session,
            organization_id=organization_id,
            product_id=product_id,
            before=page.before,
            most=page.limit + 1,
        )
    shown = found[: page.limit]
    return shown, shown[-1].id if len(found) > page.limit else None


def redrive(
    context: Context, *, organization: str | None = None, product: str | None = None
) -> tuple[int, list[QuarantineGroup]]:
    """Try every quarantined event again now. Returns how many found a place, and what is still held.

    What found one in a closed period is late and goes on the next invoice. Raises NotFound.
    """
    organization_id, product_id = _named(context, organization, product)
    found = 0
    for each_organization, each_product in _waiting(context):
        if organization_id in (None, each_organization) and product_id in (None, each_product):
            with context.tenant(each_organization) as unit:
                found += usage_intake.redrive(unit.session, each_organization, each_product)
                adjusting.follow_up(unit)
    return found, held(context, organization=organization, product=product)


def redrive_later(context: Context, cause: str) -> None:
    """What is sold has changed: all usage in quarantine tries again, once for this `cause`."""
    for organization_id, product_id in _waiting(context):
        with context.tenant(organization_id) as unit:
            key = f"{organization_id}:{product_id}:{cause}"
            unit.enqueue("usage.redrive", key, subject_id=product_id)


def _waiting(context: Context) -> list[tuple[UUID, UUID]]:
    with context.auditor.system() as session:
        return quarantine.waiting(session)


def _named(
    context: Context, organization: str | None, product: str | None
) -> tuple[UUID | None, UUID | None]:
    return (
        None if organization is None else resolve(context, organization),
        None if product is None else _product(context, product),
    )


def _product(context: Context, code: str) -> UUID:
    with context.database.system() as session:
        found = reading.product_by_code(session, code)
    if found is None:
        raise NotFound("no such product", field="product")
    return found.id
