"""Organizations that hold AutoFlow, for the benchmarks: as many as asked for, straight into the tables."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, create_engine, text

from benchmarks.many_rows import insert, sql_id

_PLAN = """
    SELECT p.id, p.product_id, r.id
    FROM catalog.product_plans p JOIN catalog.plan_prices r ON r.plan_id = p.id
    WHERE p.code = 'autoflow-professional' AND r.currency = 'USD' AND r.interval = 'month'
"""


def holders(server_url: str, count: int) -> list[str]:
    """Write `count` organizations with a subscription each that began forty days ago. Returns their slugs."""
    url = server_url.rsplit("/", 1)[0].replace("postgresql://", "postgresql+psycopg://", 1) + "/dunlin"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        _fill(connection, count)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()
    return [f"org-{number}" for number in range(count)]


def _fill(connection: Connection, count: int) -> None:
    plan_id, product_id, price_id = connection.execute(text(_PLAN)).one()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = f"timestamptz '{(midnight - timedelta(days=40)).isoformat()}'"
    until = f"timestamptz '{(midnight + timedelta(days=20)).isoformat()}'"
    of = {"organization_id": sql_id("organization", "n")}
    insert(
        connection,
        "catalog.organizations",
        count,
        id=of["organization_id"],
        slug="'org-' || n",
        stripe_customer_id="'cus_' || n",
    )
    insert(
        connection,
        "tenant.product_subscriptions",
        count,
        **of,
        id=sql_id("subscription", "n"),
        product_plan_id=f"'{plan_id}'",
        status="'active'",
        interval="'month'",
        discount_minor="0",
        stripe_subscription_id="'sub_' || n",
        started_at=since,
        anchor_at=since,
        usage_closed_until_at=since,
        current_period_start_at=since,
        current_period_end_at=until,
    )
    insert(
        connection,
        "tenant.subscription_items",
        count,
        **of,
        id=sql_id("item", "n"),
        subscription_id=sql_id("subscription", "n"),
        product_id=f"'{product_id}'",
        plan_id=f"'{plan_id}'",
        price_id=f"'{price_id}'",
        stripe_item_id="'si_' || n",
        started_at=since,
    )
