"""The usage door: a batch is checked whole, stored whole, and answered with its id; and corrections."""

from datetime import date
from decimal import Decimal

from billing.errors import NotFound
from billing.metering import FieldError, parse_quantity
from models import reading
from models.quarantine import Content
from tasks import quarantine, usage_corrections
from tasks.accounts import batch_accounts, kept_accounts
from tasks.plain_usage import MAX_EVENTS
from tasks.usage import accept_batch, body_digest
from tasks.usage_corrections import CorrectionTerms
from web import bodies, shapes, strict_json, usage_shapes
from web.calls import MIB, PRODUCT, PRODUCT_READS, Answer, Call, Route
from web.idempotency import check_key
from web.problems import InvalidFields
from web.typed import typed


def track(call: Call) -> Answer:
    product_id = call.known().product_id
    assert product_id is not None, "only a product's key comes here"
    events = events_of(strict_json.decode(call.raw))
    key = call.headers.get("Idempotency-Key")
    batch = accept_batch(
        call.context,
        product_id,
        events,
        idempotency_key=None if key is None else check_key(key),
        digest=body_digest(call.raw),
    )
    return Answer(shapes.AcceptedBatch(batch.batch_id, batch.accepted), status=202)


def accounts(call: Call) -> Answer:
    missing = "no such batch"
    batch_id = call.path_id("id", missing)
    own = call.known().product_id
    with call.context.database.system() as session:
        product_id = reading.product_of_batch(session, batch_id)
    if product_id is None or own not in (None, product_id):
        raise NotFound(missing)
    found = batch_accounts(call.context, product_id, batch_id)
    return Answer(
        shapes.BatchAccounts(
            batch_id=batch_id,
            accepted=found.accepted,
            rated=found.rated,
            waiting=found.waiting,
            quarantined=found.quarantined,
            duplicate=found.duplicate,
            reasons=found.reasons,
        )
    )


def events_of(decoded: object) -> list[dict[str, object]]:
    """The events of a body: one event, or `{"events": [...]}`. Raises InvalidFields."""
    if not isinstance(decoded, dict):
        raise InvalidFields([FieldError("", "must be an event, or an object with `events`")])
    if "events" not in decoded:
        return [decoded]
    events = decoded["events"]
    if len(decoded) > 1:
        raise InvalidFields(
            [FieldError(name, "is not known beside `events`") for name in decoded if name != "events"]
        )
    if not isinstance(events, list) or not 0 < len(events) <= MAX_EVENTS:
        raise InvalidFields([FieldError("events", f"must be a list of 1 to {MAX_EVENTS} events")])
    errors = [
        FieldError("events", "must be an object", index)
        for index, event in enumerate(events)
        if not isinstance(event, dict)
    ]
    if errors:
        raise InvalidFields(errors[:100])
    return events


def correct(call: Call) -> Answer:
    caller, body = call.known(), _correction(call.raw)
    assert caller.product_id is not None, "only a product's key comes here"
    key = call.headers.get("Idempotency-Key")
    terms = CorrectionTerms(
        event_id=body.event_id,
        quantity=None if body.quantity is None else parse_quantity(body.quantity),
        reason=body.reason,
        who=f"{caller.kind} key {caller.name}",
        idempotency_key=None if key is None else check_key(key),
    )
    organization_id = call.organization_id(body.organization)
    found = usage_corrections.correct(call.context, caller.product_id, organization_id, terms)
    row = found.correction
    shown = usage_shapes.UsageCorrection(
        id=row.id,
        organization=row.organization_id,
        event_id=row.event_id,
        number=row.number,
        kind=row.kind,
        quantity=None if row.quantity is None else shapes.plain(row.quantity),
        original_quantity=shapes.plain(found.record.quantity),
        reason=row.reason,
        received_at=row.received_at,
        effect=found.effect,
    )
    return Answer(shown, status=201 if found.created else 200)


def _correction(raw: bytes) -> bodies.UsageCorrection:
    """The body of a correction; its quantity may be a JSON number too. Raises InvalidFields."""
    decoded = strict_json.decode(raw) if raw.strip() else {}
    if isinstance(decoded, dict):
        quantity = decoded.get("quantity")
        if isinstance(quantity, int | Decimal) and not isinstance(quantity, bool):
            decoded["quantity"] = str(quantity)
    body = typed(decoded, bodies.UsageCorrection)
    if body.void and body.quantity is not None:
        raise InvalidFields([FieldError("quantity", "must not be given with `void`")])
    if not body.void and body.quantity is None:
        raise InvalidFields([FieldError("quantity", "is required, unless `void` is true")])
    return body


def conflicts(call: Call) -> Answer:
    reference = call.query.get("organization")
    found, following = quarantine.conflicts(
        call.context,
        call.page(),
        organization_id=None if reference is None else call.organization_id(reference),
        product_id=call.known().product_id,
    )
    items = [
        usage_shapes.UsageConflict(
            id=row.id,
            organization=row.organization,
            product=row.product,
            event_id=row.event_id,
            received_at=row.received_at,
            kept=_content(row.kept),
            refused=_content(row.refused),
            settled=row.settled,
        )
        for row in found
    ]
    return Answer(usage_shapes.UsageConflicts(items, following))


def days(call: Call) -> Answer:
    found = kept_accounts(call.context, _day(call, "from"), _day(call, "to"), call.known().product_id)
    items = [
        usage_shapes.DayAccounts(
            product=each.product_code,
            day=each.day,
            accepted=each.accepted,
            rated=each.rated,
            waiting=each.waiting,
            quarantined=each.quarantined,
            duplicate=each.duplicate,
            adds_up=each.adds_up,
            unbalanced_batches=each.unbalanced,
            counted_at=each.counted_at,
        )
        for each in found
        if each.day is not None
    ]
    return Answer(usage_shapes.UsageAccounts(items))


def _day(call: Call, name: str) -> date | None:
    given = call.query.get(name)
    try:
        return None if given is None else date.fromisoformat(given)
    except ValueError:
        raise InvalidFields([FieldError(name, "must be a day, such as 2026-04-30")]) from None


def _content(content: Content) -> usage_shapes.EventContent:
    return usage_shapes.EventContent(
        metric=content.metric,
        quantity=shapes.plain(content.quantity),
        timestamp=content.occurred_at,
        properties=content.properties,
        batch_id=content.batch_id,
    )


TRACK = Route(
    method="POST",
    path="/api/billing/usage/track/",
    view=track,
    access=PRODUCT,
    summary="Report usage: one event, or a list of up to 5,000; all are taken, or none",
    tag="Usage",
    read_by_view=(bodies.UsageEventBody, bodies.UsageBatchBody),
    answer=shapes.AcceptedBatch,
    status=202,
    max_body=4 * MIB,
    stores_first=True,
    # The batch keeps its own key: storing it and answering are one commit.
    keeps_answer=False,
    refusals=(400, 409, 413, 422),
)

ROUTES = (
    TRACK,
    Route(
        method="POST",
        path="/api/billing/usage/correct/",
        view=correct,
        access=PRODUCT,
        summary="Correct one event: another quantity, or void; before or after its invoice",
        tag="Usage",
        read_by_view=(bodies.UsageCorrection,),
        answer=usage_shapes.UsageCorrection,
        status=201,
        # A correction keeps its own key, and an event that is on its way is asked for again.
        keeps_answer=False,
        refusals=(404, 409, 422, 503),
    ),
    Route(
        method="GET",
        path="/api/billing/usage/batches/<id>/",
        view=accounts,
        access=PRODUCT_READS,
        summary="What became of a batch: accepted = rated + waiting + quarantined + duplicate",
        tag="Usage",
        answer=shapes.BatchAccounts,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path="/api/billing/usage/conflicts/",
        view=conflicts,
        access=PRODUCT_READS,
        summary="Event ids that came with two contents, both side by side, newest first",
        tag="Usage",
        answer=usage_shapes.UsageConflicts,
        query={
            "organization": "only of this one: id, slug or external id",
            "limit": "1 to 200, 50 if not given",
            "cursor": "`next` of the page before",
        },
        refusals=(404,),
    ),
    Route(
        method="GET",
        path="/api/billing/usage/accounts/",
        view=days,
        access=PRODUCT_READS,
        summary="By product and day: accepted = rated + waiting + quarantined + duplicate",
        tag="Usage",
        answer=usage_shapes.UsageAccounts,
        query={
            "from": "the first day of acceptance (UTC); six days before the last, if not given",
            "to": "the last day, today if not given; at most 92 days",
        },
        refusals=(422,),
    ),
)
