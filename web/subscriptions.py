"""Subscriptions: subscribe, look, cancel, reactivate."""

from dataclasses import replace
from uuid import UUID

from msgspec import UNSET, UnsetType

from billing.errors import InvalidTerms, NotFound
from models import reading
from models.reading import InvoiceDetail, SubscriptionListing
from tasks import adjusting, cancelling, pausing, previews, subscription_changes, subscriptions
from web import bodies, shapes, usage_shapes
from web.calls import ADMIN, ORGANIZATION, Answer, Call, Route
from web.invoices import line as invoice_line


def create(call: Call) -> Answer:
    body: bodies.NewSubscription = call.body
    organization_id = call.organization_id(body.organization)
    terms = subscriptions.SubscriptionTerms(
        plan=body.plan,
        bundle=body.bundle,
        currency=body.currency,
        interval=body.interval,
        quantity=body.quantity,
        trial_days=_trial_days(call, body),
        coupon=body.coupon,
        payment_method=body.payment_method,
        private=call.known().kind == "admin",
        id=call.intention,
    )
    created = subscriptions.create(call.context, organization_id, terms)
    shown = _read(call, organization_id, created.subscription.id, client_secret=created.client_secret)
    return Answer(shown, status=201)


def _trial_days(call: Call, body: bodies.NewSubscription) -> int:
    if not body.trial:
        return body.trial_days or 0
    if body.trial_days is not None:
        raise InvalidTerms("name a length, or take the catalog's trial", field="trial_days")
    return call.context.settings.trial_period.days


def listed(call: Call) -> Answer:
    organization_id = call.organization_id(call.query.get("organization"))
    with call.context.tenant(organization_id) as unit:
        found, following = reading.subscriptions(unit.session, organization_id, call.page())
    return Answer(shapes.Subscriptions([_subscription(listing) for listing in found], following))


def detail(call: Call) -> Answer:
    return Answer(_read(call, *call.organization_of("subscription")))


def change(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    terms = replace(_change_terms(call.body), id=call.intention)
    subscription_changes.change(call.context, organization_id, subscription_id, terms)
    return Answer(_read(call, organization_id, subscription_id))


def preview(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    body: bodies.Preview = call.body
    terms = None if body == bodies.Preview() else _change_terms(body)
    return Answer(_coming(previews.preview(call.context, organization_id, subscription_id, terms)))


def upcoming(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    return Answer(_coming(previews.preview(call.context, organization_id, subscription_id)))


def _coming(found: InvoiceDetail) -> shapes.InvoicePreview:
    row = found.invoice
    return shapes.InvoicePreview(
        subscription=row.subscription_id,
        kind=row.kind,
        currency=row.currency,
        subtotal_minor=row.subtotal_minor,
        discount_minor=row.discount_minor,
        tax_minor=row.tax_minor,
        tax_name=row.tax_name,
        tax_percentage=None if row.tax_percentage is None else shapes.plain(row.tax_percentage),
        tax_inclusive=row.tax_inclusive,
        credit_minor=row.credit_minor,
        total_minor=row.total_minor,
        period_start_at=row.period_start_at,
        period_end_at=row.period_end_at,
        lines=[invoice_line(*parts) for parts in found.lines],
    )


def _change_terms(body: bodies.SubscriptionChange) -> subscription_changes.ChangeTerms:
    return subscription_changes.ChangeTerms(
        plan=body.plan,
        quantity=body.quantity,
        product=body.product,
        remove=body.remove,
        interval=body.interval,
        proration=body.proration,
    )


def cancel(call: Call) -> Answer:
    body: bodies.Cancellation = call.body
    organization_id, subscription_id = call.organization_of("subscription")
    cancelling.cancel(
        call.context, organization_id, subscription_id, call.intention, at_period_end=body.at_period_end
    )
    return Answer(_read(call, organization_id, subscription_id))


def pause(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    pausing.pause(call.context, organization_id, subscription_id, call.intention)
    return Answer(_read(call, organization_id, subscription_id))


def resume(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    pausing.resume(call.context, organization_id, subscription_id, call.intention)
    return Answer(_read(call, organization_id, subscription_id))


def reactivate(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    cancelling.reactivate(call.context, organization_id, subscription_id, call.intention)
    return Answer(_read(call, organization_id, subscription_id))


def adjust(call: Call) -> Answer:
    organization_id, subscription_id = call.organization_of("subscription")
    actor = call.known().principal
    invoice = adjusting.adjust(call.context, organization_id, subscription_id, actor=actor)
    return Answer(usage_shapes.Adjustment(invoice=None if invoice is None else invoice.id), status=202)


def _read(
    call: Call, organization_id: UUID, subscription_id: UUID, client_secret: str | None | UnsetType = UNSET
) -> shapes.Subscription:
    with call.context.tenant(organization_id) as unit:
        listing = reading.subscription(unit.session, organization_id, subscription_id)
    if listing is None:
        raise NotFound("no such subscription")
    shown = _subscription(listing)
    shown.client_secret = client_secret
    return shown


def _subscription(listing: SubscriptionListing) -> shapes.Subscription:
    row = listing.subscription
    return shapes.Subscription(
        id=row.id,
        organization=row.organization_id,
        plan=listing.plan,
        bundle=listing.bundle,
        status=row.status,
        currency=row.currency,
        interval=row.interval,
        quantity=row.quantity,
        discount_minor=row.discount_minor,
        started_at=row.started_at,
        trial_end_at=row.trial_end_at,
        current_period_start_at=row.current_period_start_at,
        current_period_end_at=row.current_period_end_at,
        cancel_at_period_end=row.cancel_at_period_end,
        cancelled_at=row.cancelled_at,
        ended_at=row.ended_at,
        items=[
            shapes.SubscriptionItem(
                id=item.id,
                product=product,
                plan=plan,
                quantity=item.quantity,
                amount_minor=price.amount_minor,
                currency=price.currency,
                started_at=item.started_at,
                ended_at=item.ended_at,
            )
            for item, product, plan, price in listing.items
        ],
    )


_ALL = "/api/billing/subscriptions/"

ROUTES = (
    Route(
        method="POST",
        path=_ALL,
        view=create,
        access=ORGANIZATION,
        summary="Subscribe to a plan or a bundle",
        tag="Subscriptions",
        body=bodies.NewSubscription,
        answer=shapes.Subscription,
        status=201,
        refusals=(402, 404, 409),
    ),
    Route(
        method="GET",
        path=_ALL,
        view=listed,
        access=ORGANIZATION,
        summary="The organization's subscriptions, newest first",
        tag="Subscriptions",
        answer=shapes.Subscriptions,
        query={
            "organization": "id, slug or external id; needed with an admin's key",
            "limit": "1 to 200, 50 if not given",
            "cursor": "`next` of the page before",
        },
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/",
        view=detail,
        access=ORGANIZATION,
        summary="One subscription with its items",
        tag="Subscriptions",
        answer=shapes.Subscription,
        refusals=(404,),
    ),
    Route(
        method="PATCH",
        path=_ALL + "<id>/",
        view=change,
        access=ORGANIZATION,
        summary="Change plan, seats or interval, or take a product out of a bundle",
        tag="Subscriptions",
        body=bodies.SubscriptionChange,
        answer=shapes.Subscription,
        refusals=(404, 409),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/upcoming/",
        view=upcoming,
        access=ORGANIZATION,
        summary="The coming invoice as things stand: usage so far, changes, discounts, tax, credit",
        tag="Subscriptions",
        answer=shapes.InvoicePreview,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/preview/",
        view=preview,
        access=ORGANIZATION,
        summary="The coming invoice, as things stand or after a change",
        tag="Subscriptions",
        body=bodies.Preview,
        answer=shapes.InvoicePreview,
        needs="read",
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/cancel/",
        view=cancel,
        access=ORGANIZATION,
        summary="Cancel, at the end of the period or at once",
        tag="Subscriptions",
        body=bodies.Cancellation,
        answer=shapes.Subscription,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/pause/",
        view=pause,
        access=ORGANIZATION,
        summary="Pause: nothing is charged, access is suspended",
        tag="Subscriptions",
        answer=shapes.Subscription,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/resume/",
        view=resume,
        access=ORGANIZATION,
        summary="Go on from a pause with a new period, once it is paid",
        tag="Subscriptions",
        answer=shapes.Subscription,
        refusals=(402, 404, 409),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/reactivate/",
        view=reactivate,
        access=ORGANIZATION,
        summary="Take back a cancellation at the period's end",
        tag="Subscriptions",
        answer=shapes.Subscription,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/adjust/",
        view=adjust,
        access=ADMIN,
        summary="Bill what came late or was corrected now, on an invoice of its own",
        tag="Subscriptions",
        answer=usage_shapes.Adjustment,
        status=202,
        refusals=(404,),
    ),
)
