"""The quarter that every fault must leave as it is."""

from tests.scenarios.world import Customer, World


def a_quarter(world: World, name: str) -> Customer:
    """Two months of usage; 12,000 and 11,000 runs are 2,000 and 1,000 above the allowance at 1.5 cents."""
    ada = world.on("2026-04-01", name)
    ada.card()
    ada.subscribes("autoflow-professional")
    for month, runs in (("04", 12_000), ("05", 11_000)):
        ada.lives_until(f"2026-{month}-20")
        for part in range(10):
            ada.uses(f"2026-{month}-{10 + part}", runs // 10)
        ada.lives_until(f"2026-{int(month) + 1:02d}-01T02:00")
    return ada


QUIET = [("first", "paid", 75_00), ("cycle", "paid", 105_00), ("cycle", "paid", 90_00)]
CHARGES = [("succeeded", 75_00), ("succeeded", 105_00), ("succeeded", 90_00)]
