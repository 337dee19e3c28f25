"""Test clocks: time for some organizations, moved by hand."""

from uuid import UUID

from billing.errors import Conflict, NotFound
from models.organizations import TestClock
from tasks import clocks
from web import bodies, shapes
from web.calls import ADMIN, Answer, Call, Route


def create(call: Call) -> Answer:
    _refuse_live(call)
    body: bodies.NewTestClock = call.body
    return Answer(_clock(clocks.create(call.context, body.name, body.at, call.intention)), status=201)


def show(call: Call) -> Answer:
    with call.context.database.system() as session:
        row = session.get(TestClock, _clock_id(call))
    if row is None:
        raise NotFound("no such test clock")
    return Answer(_clock(row))


def advance(call: Call) -> Answer:
    _refuse_live(call)
    body: bodies.ClockAdvance = call.body
    return Answer(_clock(clocks.advance(call.context, _clock_id(call), body.to)), status=202)


def _clock_id(call: Call) -> UUID:
    return call.path_id("id", "no such test clock")


def _refuse_live(call: Call) -> None:
    if call.context.gateway.livemode:
        raise Conflict("there are no test clocks in live mode")


def _clock(row: TestClock) -> shapes.TestClock:
    return shapes.TestClock(
        id=row.id, name=row.name, at=row.frozen_at, target=row.target_at, last_error=row.last_error
    )


_ALL = "/api/billing/test_clocks/"

ROUTES = (
    Route(
        method="POST",
        path=_ALL,
        view=create,
        access=ADMIN,
        summary="Make a clock that stands until it is advanced; never in live mode",
        tag="Test clocks",
        body=bodies.NewTestClock,
        answer=shapes.TestClock,
        status=201,
        refusals=(409,),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/",
        view=show,
        access=ADMIN,
        summary="Where a clock stands; `target` is null when everything due by then has been done",
        tag="Test clocks",
        answer=shapes.TestClock,
        refusals=(404,),
    ),
    Route(
        method="POST",
        path=_ALL + "<id>/advance/",
        view=advance,
        access=ADMIN,
        summary="Let a clock run to an instant; what is due on the way is done in its turn",
        tag="Test clocks",
        body=bodies.ClockAdvance,
        answer=shapes.TestClock,
        status=202,
        refusals=(404, 409),
    ),
)
