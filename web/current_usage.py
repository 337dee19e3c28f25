"""What a subscription has used so far, and what that costs."""

from uuid import UUID

from billing.errors import NotFound
from billing.metering import FieldError
from models.reading import owner_of
from tasks.current_usage import MetricUsage, current_usage, plain
from web import usage_shapes
from web.calls import ORGANIZATION, Answer, Call, Route
from web.problems import InvalidFields

_MISSING = "no such subscription"


def show(call: Call) -> Answer:
    if call.query.get("period", "current") != "current":
        raise InvalidFields([FieldError("period", "must be current")])
    found = current_usage(call.context, *_subscription(call))
    return Answer(
        usage_shapes.CurrentUsage(
            subscription=found.subscription.id,
            period_start_at=found.period.start,
            period_end_at=found.period.end,
            at=found.at,
            trial=any(each.metered.in_trial for each in found.metrics),
            currency=found.subscription.currency,
            cost_so_far_minor=found.cost_so_far.minor,
            projected_cost_minor=found.projected_cost.minor,
            items=[_metric(each) for each in found.metrics],
        )
    )


def _subscription(call: Call) -> tuple[UUID, UUID]:
    """The organization and the subscription that is asked for, wherever an organization's key may look."""
    given = call.query.get("subscription")
    if given is None:
        raise InvalidFields([FieldError("subscription", "is required")])
    try:
        subscription_id = UUID(given)
    except ValueError:
        raise NotFound(_MISSING, field="subscription") from None
    own = call.known().organization_id
    if own is None:
        own = call.context.auditor.at_once(lambda asked: owner_of(asked, "subscription", subscription_id))
    if own is None:
        raise NotFound(_MISSING, field="subscription")
    return own, subscription_id


def _metric(usage: MetricUsage) -> usage_shapes.MetricUsage:
    meter, billed = usage.metered.meter, usage.metered.billed
    return usage_shapes.MetricUsage(
        metric=meter.code,
        name=meter.name,
        unit=meter.unit,
        product=billed.product.code,
        plan=billed.plan.code,
        aggregation=meter.aggregation,
        group=usage.group,
        match=usage.match,
        quantity=plain(usage.quantity),
        included=plain(usage.included),
        overage=plain(usage.overage),
        cost_so_far_minor=usage.cost_so_far.minor,
        projected_quantity=plain(usage.projected_quantity),
        projected_cost_minor=usage.projected_cost.minor,
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/billing/usage/",
        view=show,
        access=ORGANIZATION,
        summary="Usage of a subscription's running period: included, overage, cost so far, projected",
        tag="Usage",
        answer=usage_shapes.CurrentUsage,
        query={"subscription": "its id", "period": "current, which is also what nothing means"},
        refusals=(404, 422),
    ),
)
