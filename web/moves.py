"""Moving subscribers in bulk to the version that is sold now."""

from tasks import moving
from web import bodies, shapes
from web.calls import ADMIN, Answer, Call, Route

# A request that begins more would take longer than its caller waits.
_MOST = 500


def move(call: Call) -> Answer:
    body: bodies.BulkMove = call.body
    wanted = moving.MoveTerms(
        code=call.path["code"],
        to=body.to,
        organizations=tuple(body.organizations),
        proration=body.proration,
    )
    if body.dry_run:
        found = moving.rehearse(call.context, wanted, most=_MOST)
    else:
        found = moving.begin(call.context, wanted, most=_MOST)
    items = [
        shapes.Move(
            organization=each.organization,
            subscription=each.subscription_id,
            from_version=each.from_version,
            currency=each.currency,
            interval=each.interval,
            old_minor=each.old_minor,
            new_minor=each.new_minor,
            refusal=each.refusal,
        )
        for each in found
    ]
    begun = 0 if body.dry_run else sum(each.refusal is None for each in found)
    return Answer(shapes.Moves(items=items, begun=begun))


ROUTES = (
    Route(
        method="POST",
        path="/api/billing/plans/<code>/move/",
        view=move,
        access=ADMIN,
        summary="Move up to 500 subscribers of a plan or a bundle to the version that is sold now",
        tag="Catalog",
        body=bodies.BulkMove,
        answer=shapes.Moves,
        refusals=(404,),
    ),
)
