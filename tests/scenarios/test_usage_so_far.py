"""Usage so far, on the whole system: by the API, by the access check, and at last on the invoice.

AutoFlow Professional includes 10,000 workflow runs a month; then 1.5 cents each up to 100,000.
"""

from typing import Any

from cli.demo.api import patiently
from tests.scenarios.world import Customer, World


def so_far(customer: Customer, subscription_id: str) -> dict[str, Any]:
    path = f"/api/billing/usage/?subscription={subscription_id}&period=current"
    found: dict[str, Any] = customer.world.admin.get(path)
    [metric] = found["items"]
    names = ("metric", "quantity", "included", "overage", "cost_so_far_minor", "projected_quantity")
    return {**{name: metric[name] for name in names}, "projected_cost_minor": found["projected_cost_minor"]}


def runs(customer: Customer) -> str:
    answer = customer.world.product.get(f"/api/billing/access/{customer.slug}/autoflow/")
    return str(answer["usage"]["workflow_runs"])


def rolled_up(customer: Customer) -> bool:
    """Whether a tick has been by since the last batch and the last correction; rings for it as beat does."""
    customer.world.context.bell.ring("rollups.write")
    [(left,)] = customer.rows(
        "SELECT (SELECT count(*) FROM tenant.usage_stale_hours) + (SELECT count(*) FROM ops.usage_inbox "
        f"WHERE rolled_up_at IS NULL AND organization_ids @> ARRAY['{customer.id}'::uuid])"
    )
    return bool(left == 0)


def test_usage_so_far_is_what_the_invoice_will_charge(world: World) -> None:
    nora = world.on("2026-04-01", "nora")
    nora.card()
    subscription_id = nora.subscribes("autoflow-professional")
    nora.lives_until("2026-04-11")
    nora.uses("2026-04-02", 9_000, "nora-1")
    nora.uses("2026-04-10T23:30", 3_000, "nora-2")

    # 2,000 at 1.5 cents; in ten of thirty days: 36,000 by the end, 26,000 at 1.5 cents
    expected = {
        "metric": "workflow_runs",
        "quantity": "12000",
        "included": "10000",
        "overage": "2000",
        "cost_so_far_minor": 30_00,
        "projected_quantity": "36000",
        "projected_cost_minor": 390_00,
    }
    assert (so_far(nora, subscription_id), runs(nora)) == (expected, "12000")
    assert patiently(lambda: rolled_up(nora), bool, 90.0)
    assert (so_far(nora, subscription_id), runs(nora)) == (expected, "12000")

    nora.corrects("nora-2", "13000", "ten thousand were missing")
    corrected = {
        **expected,
        "quantity": "22000",
        "overage": "12000",
        "cost_so_far_minor": 180_00,
        "projected_quantity": "66000",
        "projected_cost_minor": 840_00,
    }
    assert (so_far(nora, subscription_id), runs(nora)) == (corrected, "22000")
    assert patiently(lambda: rolled_up(nora), bool, 90.0)
    assert (so_far(nora, subscription_id), runs(nora)) == (corrected, "22000")
    kept = nora.rows("SELECT restates, count, sum FROM tenant.usage_rollups ORDER BY number, hour_at")
    assert kept == [
        (False, 1, 9_000),
        (False, 1, 3_000),
        (True, 1, 13_000),
    ]

    nora.lives_until("2026-05-01T02:00")
    usage = [line["amount_minor"] for line in nora.invoices[-1]["lines"] if line["kind"] == "usage"]
    assert usage == [180_00]
    # May has begun, and nothing is used of it.
    assert (so_far(nora, subscription_id)["quantity"], runs(nora)) == ("0", "0")
    world.holds(nora)
