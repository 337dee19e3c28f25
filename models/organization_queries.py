"""Finding organizations: by id, slug, external id, or their customer at Stripe."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.orm import Session

from models.database import SETTING, Connection
from models.organizations import Organization, TaxRate, TestClock


def by_reference(session: Session, reference: str) -> Organization | None:
    """The organization whose id, slug or external id is `reference`, tried in that sequence."""
    try:
        found = session.get(Organization, UUID(reference))
    except ValueError:
        found = None
    if found is not None:
        return found
    named = session.execute(
        select(Organization).where(or_(Organization.slug == reference, Organization.external_id == reference))
    ).scalars()
    # A slug of one may be the external id of another: the slug wins.
    return min(named, key=lambda organization: organization.slug != reference, default=None)


def id_by_reference(connection: Connection, reference: str) -> UUID | None:
    """The id of the organization that `by_reference` finds; one statement, which needs no transaction."""
    named = [Organization.slug == reference, Organization.external_id == reference]
    own = None
    with suppress(ValueError):
        own = UUID(reference)
        named.append(Organization.id == own)
    rows = connection.execute(select(Organization.id, Organization.slug).where(or_(*named))).all()
    best = min(rows, key=lambda row: (row.id != own, row.slug != reference), default=None)
    return best.id if best else None


# Built once: to build it costs a third of what it takes to run it.
_ENTER = (
    select(Organization, TestClock, func.set_config(SETTING, bindparam("setting"), True))
    .outerjoin(TestClock, TestClock.id == Organization.test_clock_id)
    .where(Organization.id == bindparam("id"))
)


def enter(session: Session, organization_id: UUID) -> tuple[Organization, TestClock | None] | None:
    """The organization and its test clock; from here on this transaction sees its rows, and no other's.

    One round trip, since every piece of work begins with it. None when there is no such organization.
    """
    row = session.execute(_ENTER, {"id": organization_id, "setting": str(organization_id)}).one_or_none()
    return None if row is None else (row[0], row[1])


def hold_still(session: Session, organization_id: UUID) -> None:
    """Wait for other transactions that hold this organization's row, and hold it until this one ends.

    Rows that refer to it can be written meanwhile.
    """
    session.execute(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )


def is_named(session: Session, organization_id: UUID, reference: str) -> bool:
    """Whether `reference` is the id, slug or external id of this organization.

    It looks at no other: whether a name is another's or nobody's is not even known here.
    """
    own = session.get_one(Organization, organization_id)
    try:
        return UUID(reference) == own.id
    except ValueError:
        return reference in (own.slug, own.external_id)


def by_customer(session: Session, stripe_customer_id: str) -> Organization | None:
    return session.execute(
        select(Organization).where(Organization.stripe_customer_id == stripe_customer_id)
    ).scalar_one_or_none()


def ids_by_customers(session: Session, stripe_customer_ids: Collection[str]) -> dict[str, UUID]:
    """The organizations of customers at Stripe, for those that are ours."""
    rows = session.execute(
        select(Organization.stripe_customer_id, Organization.id).where(
            Organization.stripe_customer_id.in_(stripe_customer_ids)
        )
    )
    return {str(customer_id): organization_id for customer_id, organization_id in rows}


def on_clock(session: Session, clock_id: UUID) -> Sequence[Organization]:
    return session.execute(select(Organization).where(Organization.test_clock_id == clock_id)).scalars().all()


def clock_by_stripe_id(session: Session, stripe_clock_id: str) -> TestClock | None:
    return session.execute(
        select(TestClock).where(TestClock.stripe_clock_id == stripe_clock_id)
    ).scalar_one_or_none()


def tax_rate_by_code(session: Session, code: str) -> TaxRate | None:
    return session.execute(select(TaxRate).where(TaxRate.code == code, TaxRate.active)).scalar_one_or_none()
