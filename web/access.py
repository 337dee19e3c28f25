"""What a product asks on each request: may this organization use me?"""

from datetime import timedelta

from tasks.access import access
from web import shapes
from web.calls import PRODUCT_READS, Answer, Call, Route

# A suspension may reach a product this much later; in return it need not ask again for each request.
_FRESH = timedelta(seconds=15)


def show(call: Call) -> Answer:
    organization_id = call.organization_id(call.path["organization"])
    found = access(call.context, organization_id, call.path["product"], only=call.known().product_id)
    return Answer(
        shapes.Access(
            access=found.access,
            until=found.until,
            features=found.features,
            limits=found.limits,
            usage=found.usage,
        ),
        headers={"Cache-Control": f"private, max-age={_FRESH.seconds}"},
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/billing/access/<organization>/<product>/",
        view=show,
        access=PRODUCT_READS,
        summary="What an organization may use of a product: full, grace, suspended or none",
        tag="Access",
        answer=shapes.Access,
        refusals=(404,),
    ),
)
