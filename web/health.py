"""Is the process alive, can it take work, and how does the work stand?"""

from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models import overview, reading
from models.overview import Gauge
from models.reading import DATABASE_AWAY
from web import shapes
from web.calls import ADMIN, PUBLIC, Answer, Call, Route

HEARTBEAT = "beat"
# Three beats of a minute: one lost tick is no outage.
STALE_AFTER = timedelta(seconds=180)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def live(_: Call) -> Answer:
    return Answer(shapes.Health(status="live"))


def ready(call: Call) -> Answer:
    """Ready means: the database answers, and beat, broker and a worker have lately done something.

    A system that has just been started has had no beat yet and is ready too.
    """
    now = call.context.wall()
    try:
        with call.context.database.system() as session:
            beaten_at = reading.heartbeat(session, HEARTBEAT)
    except DATABASE_AWAY:
        return Answer(shapes.Health(status="unavailable", database="away"), status=503)
    if beaten_at is None:
        work, well = "starting", now - call.started_at < STALE_AFTER
    else:
        well = now - max(beaten_at, call.started_at - STALE_AFTER) < STALE_AFTER
        work = "running" if well else "stale"
    state = "ready" if well else "unavailable"
    return Answer(shapes.Health(status=state, database="ok", work=work), status=200 if well else 503)


def metrics(call: Call) -> Answer:
    with call.context.auditor.system() as session:
        gauges = overview.gauges(session)
    registry = CollectorRegistry()
    registry.register(_Snapshot(gauges))
    return Answer(generate_latest(registry), content_type=METRICS_TYPE)


class _Snapshot(Collector):
    """Gauges as they were counted a moment ago; nothing is kept between two scrapes."""

    def __init__(self, gauges: list[Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> list[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for gauge in self._gauges:
            family = families.get(gauge.name)
            if family is None:
                family = families[gauge.name] = GaugeMetricFamily(
                    gauge.name, gauge.meaning, labels=list(gauge.labels)
                )
            family.add_metric(list(gauge.labels.values()), gauge.value)
        return list(families.values())


ROUTES = (
    Route(
        method="GET",
        path="/health/live",
        view=live,
        access=PUBLIC,
        summary="The process answers",
        tag="Health",
        answer=shapes.Health,
    ),
    Route(
        method="GET",
        path="/health/ready",
        view=ready,
        access=PUBLIC,
        summary="The process can take work, and work is being done",
        tag="Health",
        answer=shapes.Health,
        refusals=(503,),
    ),
    Route(
        method="GET",
        path="/metrics",
        view=metrics,
        access=ADMIN,
        summary="How the work stands, for Prometheus",
        tag="Health",
        content_type=METRICS_TYPE,
    ),
)
