"""Moving subscribers in bulk to the version of a plan or a bundle that is sold now.

Each subscription is a change and a job of its own: what cannot be moved is named and stops nobody else,
and whatever has been begun is found, never begun twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from billing.errors import BillingError, Conflict, InvalidTerms, NotFound
from models import change_queries, moving_queries, sale_queries
from models.moving_queries import Ended, Left
from models.subscriptions import ProductSubscription, SubscriptionChange, SubscriptionItem
from tasks import bundle_moves, organizations, subscription_changes, subscriptions
from tasks.context import Context, TenantUnit
from tasks.subscription_changes import PRORATIONS, ChangeTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTerms:
    """Whom to move: subscribers of a plan or a bundle (by code), of some organizations or of all.

    `to` must be the version that is sold now: of an older one the prices are archived at Stripe.
    """

    code: str
    to: int | None = None
    organizations: tuple[str, ...] = ()
    proration: str = "next_period"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One subscription of a bulk move: what a period costs before and after it; or why it cannot be."""

    organization: str
    subscription_id: UUID
    from_version: int
    currency: str | None = None
    interval: str | None = None
    old_minor: int = 0
    new_minor: int = 0
    refusal: str | None = None
    change_id: UUID | None = None


def rehearse(context: Context, wanted: MoveTerms, most: int | None = None) -> list[Move]:
    """Who would be moved, with the difference in price; nothing is written.

    Raises: InvalidTerms, NotFound for terms that cannot be understood.
    """
    found, is_bundle = _left_behind(context, wanted)
    return [_moved(context, wanted, each, is_bundle=is_bundle, rehearsing=True) for each in found[:most]]


def begin(context: Context, wanted: MoveTerms, most: int | None = None) -> list[Move]:
    """Begin the move of at most so many subscriptions: a change and its job each, for the workers to make.

    A repeat begins what is left. Raises: as `rehearse`.
    """
    found, is_bundle = _left_behind(context, wanted)
    moves: list[Move] = []
    for left in found:
        if most is not None and sum(move.refusal is None for move in moves) >= most:
            break
        moves.append(_moved(context, wanted, left, is_bundle=is_bundle, rehearsing=False))
    return moves


def outcome(context: Context, change_ids: Sequence[UUID]) -> list[Ended]:
    """What has become of the changes of a move."""
    with context.auditor.system() as session:
        return moving_queries.ended(session, change_ids)


def _left_behind(context: Context, wanted: MoveTerms) -> tuple[list[Left], bool]:
    """Who is on an older version, and whether the code is a bundle's."""
    if wanted.proration not in PRORATIONS:
        raise InvalidTerms(f"must be one of {', '.join(PRORATIONS)}", field="proration")
    chosen = [organizations.resolve(context, each) for each in wanted.organizations] or None
    with context.auditor.system() as session:
        plan = moving_queries.plan_on_sale(session, wanted.code)
        versions = {plan.version} if plan else moving_queries.bundle_versions(session, wanted.code)
        if not versions:
            raise NotFound(f"no plan or bundle {wanted.code} is sold")
        if wanted.to is not None and wanted.to not in versions:
            sold = ", ".join(map(str, sorted(versions)))
            raise InvalidTerms(f"version {sold} is sold, and only to that one can move", field="to")
        return moving_queries.left_behind(session, wanted.code, chosen, bundle=plan is None), plan is None


def _moved(context: Context, wanted: MoveTerms, left: Left, *, is_bundle: bool, rehearsing: bool) -> Move:
    try:
        with _opened(context, left.organization_id, rehearsing=rehearsing) as unit:
            subscription = subscriptions.find(unit, left.subscription_id)
            begun = _begun(unit, subscription, wanted)
            change = begun or _change(unit, subscription, wanted, left, is_bundle=is_bundle)
            if not rehearsing and begun is None:
                subscription_changes.enqueue(unit, change)
            elif not rehearsing:
                _revive(unit, change)
            move = _priced(unit, subscription, left, change)
    except BillingError as refusal:
        return Move(
            organization=left.organization,
            subscription_id=left.subscription_id,
            from_version=left.version,
            refusal=str(refusal),
        )
    return move


@contextmanager
def _opened(context: Context, organization_id: UUID, *, rehearsing: bool) -> Iterator[TenantUnit]:
    if rehearsing:
        with context.rehearsal(organization_id) as unit:
            yield unit
        return
    with context.database.organization_lock(organization_id), context.tenant(organization_id) as unit:
        yield unit


def _begun(
    unit: TenantUnit, subscription: ProductSubscription, wanted: MoveTerms
) -> SubscriptionChange | None:
    """The same move, begun earlier and not ended."""
    found = change_queries.unfinished_change(unit.session, unit.organization.id, subscription.id)
    ours = found is not None and moving_queries.leads_to_sale(unit.session, found, wanted.code)
    return found if ours else None


def _revive(unit: TenantUnit, change: SubscriptionChange) -> None:
    """A move that was begun earlier and gave up is driven again."""
    job_id = moving_queries.redrive(unit.session, change.id)
    if job_id is not None:
        unit.ring("subscription_changes.apply", str(job_id))


def _change(
    unit: TenantUnit, subscription: ProductSubscription, wanted: MoveTerms, left: Left, *, is_bundle: bool
) -> SubscriptionChange:
    if is_bundle:
        offer = sale_queries.bundle_offer(
            unit.session, wanted.code, subscription.currency, subscription.interval, private=True
        )
        if offer is None:
            raise Conflict(f"is not sold in {subscription.currency} per {subscription.interval} any more")
        return bundle_moves.request(unit, subscription, offer, wanted.proration)
    if left.in_bundle:
        raise Conflict("has the plan in a bundle: move the bundle")
    if subscription.cancel_at_period_end and wanted.proration == "next_period":
        raise Conflict("the subscription ends with this period")
    terms = ChangeTerms(plan=wanted.code, product=left.product, proration=wanted.proration, private=True)
    return subscription_changes.request(unit, subscription, terms)


def _priced(
    unit: TenantUnit, subscription: ProductSubscription, left: Left, change: SubscriptionChange
) -> Move:
    """The recurring price of a period as it is, and as the change makes it."""
    items = change_queries.live_items(unit.session, unit.organization.id, subscription.id)
    prices = {item.id: item.price_id for item in items}
    discount_minor = subscription.discount_minor
    old_minor = _recurring_minor(unit, prices, items) - discount_minor
    if change.bundle_price_id is not None:
        offer = sale_queries.bundle_version(unit.session, change.bundle_price_id)
        assert offer is not None, "the change was made of it"
        members = {member.plan.product_id: member.price.id for member in offer.members}
        prices = {item.id: members[item.product_id] for item in items}
        discount_minor = bundle_moves.sold_discount(offer).minor
    elif change.price_id is not None:
        prices[change.item_id] = change.price_id
    return Move(
        organization=left.organization,
        subscription_id=subscription.id,
        from_version=left.version,
        currency=subscription.currency,
        interval=subscription.interval,
        old_minor=old_minor,
        new_minor=_recurring_minor(unit, prices, items) - discount_minor,
        change_id=change.id,
    )


def _recurring_minor(unit: TenantUnit, prices: dict[UUID, UUID], items: Sequence[SubscriptionItem]) -> int:
    return sum(
        change_queries.priced_plan(unit.session, prices[item.id])[1].amount_minor * item.quantity
        for item in items
    )
