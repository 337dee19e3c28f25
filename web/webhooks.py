"""Stripe's door: verified and stored before the 200."""

from gateway.errors import GatewayError
from tasks.webhooks import accept_event
from web import shapes
from web.calls import ADMIN, KIB, PUBLIC, Answer, Call, Route


def receive(call: Call) -> Answer:
    accept_event(call.context, call.raw, call.headers.get("Stripe-Signature", ""))
    return Answer(shapes.Received(received=True))


def test_connection(call: Call) -> Answer:
    """Says why not with a 200 too: a broken connection is the answer asked for, not a failure of it."""
    try:
        report = call.context.gateway.test_connection()
    except GatewayError as refusal:
        return Answer(shapes.Connection(connected=False, reason=f"{type(refusal).__name__}: {refusal}"))
    return Answer(
        shapes.Connection(
            connected=True,
            account=report.account_id,
            livemode=report.livemode,
            api_version=report.api_version,
            latency_ms=report.latency_ms,
        )
    )


RECEIVE = Route(
    method="POST",
    path="/api/subscriptions/webhooks/stripe/",
    view=receive,
    # Stripe proves itself by its signature.
    access=PUBLIC,
    summary="Stripe's webhook",
    tag="Stripe",
    answer=shapes.Received,
    max_body=256 * KIB,
    keeps_answer=False,
    refusals=(400, 413),
)

ROUTES = (
    RECEIVE,
    Route(
        method="POST",
        path="/api/subscriptions/test/stripe/",
        view=test_connection,
        access=ADMIN,
        summary="Test the connection to Stripe",
        tag="Stripe",
        answer=shapes.Connection,
        keeps_answer=False,
    ),
)
