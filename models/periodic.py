"""What runs seldom but is asked often: a tick claims the run when the last one is long enough ago."""

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.ops import Heartbeat


def claim_run(session: Session, name: str, wall: datetime, every: timedelta) -> bool:
    """Take the next run of `name` if the last began `every` ago or earlier; one caller of many gets it."""
    statement = insert(Heartbeat).values(name=name, at=wall)
    claimed = session.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"at": wall}, where=Heartbeat.at <= wall - every
        ).returning(Heartbeat.name)
    )
    return claimed.scalar_one_or_none() is not None


def release_run(session: Session, name: str) -> None:
    """Give a run back that failed: the next tick claims it."""
    session.execute(delete(Heartbeat).where(Heartbeat.name == name))
