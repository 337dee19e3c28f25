"""What Postgres itself can do here: the same rows, one writer, nothing of ours between."""

import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import psycopg

_COLUMNS = (
    "organization_id, product_id, event_id, batch_id, batch_index, meter_id, quantity, occurred_at, "
    "properties, state, received_at, late"
)


def raw_limit(look: psycopg.Connection[Any], batches: Sequence[list[dict[str, Any]]]) -> float:
    """Events a second by `COPY` to a staging table and `INSERT .. SELECT .. ON CONFLICT DO NOTHING`.

    Into a table with the columns and indexes of the usage records, beside as many rows as they have; a
    commit for each batch.
    """
    look.execute("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench")
    look.execute(
        "CREATE TABLE bench.usage_records (LIKE tenant.usage_records INCLUDING DEFAULTS INCLUDING INDEXES)"
    )
    look.execute("INSERT INTO bench.usage_records SELECT * FROM tenant.usage_records")
    look.execute(f"CREATE TABLE bench.staging AS SELECT {_COLUMNS} FROM bench.usage_records LIMIT 0")
    look.execute("ANALYZE bench.usage_records")
    prepared = _prepared(look, batches)
    begun = time.monotonic()
    for rows in prepared:
        with look.transaction():
            look.execute("TRUNCATE bench.staging")
            with look.cursor() as cursor, cursor.copy(f"COPY bench.staging ({_COLUMNS}) FROM STDIN") as copy:
                copy.write(rows)
            look.execute(
                f"INSERT INTO bench.usage_records ({_COLUMNS}) SELECT {_COLUMNS} FROM bench.staging "
                "ON CONFLICT DO NOTHING"
            )
    seconds = time.monotonic() - begun
    look.execute("DROP SCHEMA bench CASCADE")
    look.execute("CHECKPOINT")
    return sum(map(len, batches)) / seconds


def _prepared(look: psycopg.Connection[Any], batches: Sequence[list[dict[str, Any]]]) -> list[bytes]:
    """The batches as text that `COPY` takes, made before the clock starts."""
    ids = dict(look.execute("SELECT slug, id::text FROM catalog.organizations").fetchall())
    product, meter = look.execute(
        "SELECT product_id::text, id::text FROM catalog.meters WHERE code = 'workflow_runs'"
    ).fetchall()[0]
    return [
        "".join(
            f"{ids[event['organization']]}\t{product}\t{event['event_id']}\t{batch_id}\t{index}\t{meter}\t"
            f"{event['quantity']}\t{event['timestamp']}\t"
            f"{json.dumps(event['properties'])}\t"
            f"waiting\t{event['timestamp']}\tf\n"
            for index, event in enumerate(batch)
        ).encode()
        for batch in batches
        for batch_id in [uuid4()]
    ]
