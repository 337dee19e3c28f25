"""The doorbell: what was put back is rung for when its time has come, and no sooner."""

import time
from datetime import timedelta

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tasks import queue
from tasks.composition import load_use_cases
from tasks.queue import CeleryBell, Settled, celery
from tasks.queue_settings import configure
from tests.servers import redis_url

SOON = timedelta(seconds=0.3)
Rung = tuple[str, str | None]


class HeardBell(CeleryBell):
    """A doorbell on the real broker whose messages are heard here, each at its instant."""

    def __init__(self) -> None:
        super().__init__(redis_url())
        self.heard: list[tuple[Rung, float]] = []

    def _ring(self, task: str, subject: str | None) -> None:
        self.heard.append(((task, subject), time.monotonic()))

    def waits_for(self, count: int) -> list[Rung]:
        """The rings so far, once there are `count`; then a little more, for one that should not come."""
        give_up_at = time.monotonic() + 10
        while len(self.heard) < count and time.monotonic() < give_up_at:
            time.sleep(0.01)
        time.sleep(0.2)
        return [rung for rung, _ in self.heard]


@pytest.fixture
def bell() -> HeardBell:
    return HeardBell()


def test_a_job_that_is_put_back_is_rung_for_when_its_wait_is_over(bell: HeardBell) -> None:
    asked_at = time.monotonic()
    bell.ring("payments.collect", "job-1", after=SOON)
    bell.ring("payments.collect", "job-2", after=SOON)

    assert set(bell.waits_for(2)) == {("payments.collect", "job-1"), ("payments.collect", "job-2")}
    assert all(heard_at - asked_at >= SOON.total_seconds() for _, heard_at in bell.heard)


def test_a_storm_of_waits_for_one_tick_is_one_ring(bell: HeardBell) -> None:
    asked_at = time.monotonic()
    for _ in range(500):
        bell.ring("webhooks.drain", after=SOON)
    took_s = time.monotonic() - asked_at

    bell.waits_for(1)
    assert len(bell.heard) <= 2 + took_s / 0.1
    assert bell.heard[-1][1] - asked_at >= SOON.total_seconds()


def test_a_wait_keeps_no_ring_from_coming_now_and_none_now_takes_the_place_of_a_wait(bell: HeardBell) -> None:
    bell.ring("webhooks.drain", after=SOON)
    bell.ring("webhooks.drain")

    assert bell.waits_for(2) == [("webhooks.drain", None)] * 2
    (_, now_at), (_, later_at) = bell.heard
    assert later_at - now_at > 0.2


def test_long_waits_and_those_beyond_counting_are_left_to_the_sweep(bell: HeardBell) -> None:
    bell.ring("payments.collect", "patient", after=timedelta(minutes=5))
    for number in range(150):
        bell.ring("payments.collect", f"job-{number}", after=timedelta(seconds=14))
    bell.ring("webhooks.drain")
    bell.ring("webhooks.drain")  # debounced, and never left to the sweep

    assert bell.waits_for(2) == [("webhooks.drain", None)] * 2
    assert len(bell._waits) == 100


def test_jobs_that_are_done_together_are_rung_for_once_and_by_no_id(
    bell: HeardBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand that are due are not a hundred thousand messages."""
    monkeypatch.setitem(queue._together, "tests.deed", lambda *_: Settled(frozenset()))
    asked_at = time.monotonic()
    for number in range(500):
        bell.ring("tests.deed", f"job-{number}")
    took_s = time.monotonic() - asked_at
    bell.ring("tests.deed", "put-back", after=SOON)

    heard = bell.waits_for(3)
    assert set(heard) == {("tests.deed", None)}
    assert 3 <= len(heard) <= 3 + took_s / 0.1, "at once, after a tenth of a second, and after the wait"
    assert bell.heard[-1][1] - asked_at >= SOON.total_seconds()


def test_a_process_that_is_set_up_for_another_broker_rings_there() -> None:
    application = Celery("another", set_as_current=False)
    for port in (7001, 7002):
        configure(application, f"redis://127.0.0.1:{port}/0")
        with application.amqp.producer_pool.acquire(block=True) as producer:
            assert f":{port}/" in producer.connection.as_uri()


def test_a_ring_that_could_not_be_sent_leaves_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep all others from ringing."""

    def is_away(**_: object) -> None:
        raise OperationalError

    load_use_cases()
    url = f"{redis_url().rpartition('/')[0]}/13"
    monkeypatch.setattr(celery.tasks["jobs.sweep"], "apply_async", is_away)
    CeleryBell(url).ring("jobs.sweep")

    assert redis.Redis.from_url(url).keys("*") == []
