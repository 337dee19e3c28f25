"""A worker that dies before it could say that a job is done: it is done once more, and changes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.faults import season
from tests.faults.metronome import Metronome
from tests.scenarios.world import World

# A job that was done at its first attempt waits for its second.
_FORGET = """
    CREATE FUNCTION ops.forget() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.state := 'queued'; NEW.finished_at := NULL; NEW.not_before_at := clock_timestamp();
        RETURN NEW;
    END $$;
    CREATE TRIGGER forget BEFORE UPDATE ON ops.jobs FOR EACH ROW
        WHEN (NEW.state = 'done' AND NEW.attempts = 1) EXECUTE FUNCTION ops.forget()
"""
_REMEMBER = "DROP TRIGGER forget ON ops.jobs; DROP FUNCTION ops.forget()"


@contextmanager
def forgetful(world: World) -> Iterator[None]:
    """Every job is done twice, the second time as soon as a sweep finds it."""
    assert world.stack.postgres_admin_url is not None
    address = psycopg.conninfo.make_conninfo(world.stack.postgres_admin_url, dbname="dunlin")
    with psycopg.connect(address, autocommit=True) as owner:
        owner.execute(_FORGET)
        try:
            with Metronome(world):
                yield
        finally:
            owner.execute(_REMEMBER)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_season_in_which_every_job_is_done_twice(world: World) -> None:
    expected = season.snapshot(season.a_season(world, "ada"))
    with forgetful(world):
        bob = season.a_season(world, "ada")

    found = season.snapshot(bob)
    for name, rows in expected.items():
        assert found[name] == rows, name
    world.holds(bob)
