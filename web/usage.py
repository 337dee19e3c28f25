"""The usage door: a batch is checked whole, stored whole, and answered with its id."""

import hashlib

from billing.errors import NotFound
from billing.metering import FieldError
from models import reading
from tasks.accounts import batch_accounts
from tasks.usage import accept_batch
from web import bodies, shapes, strict_json
from web.calls import MIB, PRODUCT, PRODUCT_READS, Answer, Call, Route
from web.idempotency import check_key
from web.problems import InvalidFields

MAX_EVENTS = 5_000


def track(call: Call) -> Answer:
    product_id = call.known().product_id
    assert product_id is not None, "only a product's key comes here"
    events = _events(strict_json.decode(call.raw))
    key = call.headers.get("Idempotency-Key")
    batch = accept_batch(
        call.context,
        product_id,
        events,
        idempotency_key=None if key is None else check_key(key),
        digest=hashlib.sha256(call.raw).hexdigest(),
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


def _events(decoded: object) -> list[dict[str, object]]:
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


ROUTES = (
    Route(
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
)
