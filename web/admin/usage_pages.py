"""The lists of usage: records, corrections, conflicts."""

from models import admin_usage_lists
from web.admin.listing import Column, ListPage, of_invoice, of_organization

_PRODUCTS = ("autoflow", "buildeasy", "teamspace")

PAGES: tuple[ListPage, ...] = (
    ListPage(
        "subscriptions",
        "usagerecord",
        "Usage records",
        "Usage record",
        admin_usage_lists.USAGE,
        (
            Column("event_id", "Event", "code"),
            of_organization(),
            Column("product", "Product"),
            Column("metric", "Metric", "code"),
            Column("quantity", "Quantity", "number"),
            Column("occurred_at", "Happened", "time"),
            Column("state", "State", "badge"),
            Column("late", "Late", "yes"),
            Column("reason", "Reason"),
            of_invoice(),
        ),
        {
            "state": ("waiting", "rated", "quarantined"),
            "reason": ("no_subscription", "no_charge"),
            "product": _PRODUCTS,
        },
    ),
    ListPage(
        "subscriptions",
        "usagecorrection",
        "Usage corrections",
        "Usage correction",
        admin_usage_lists.CORRECTIONS,
        (
            Column("event_id", "Event", "code"),
            of_organization(),
            Column("product", "Product"),
            Column("original", "Said", "number"),
            Column("correction", "Should have said"),
            Column("reason", "Reason"),
            Column("who", "By"),
            Column("received_at", "Received", "time"),
            Column("state", "State", "badge"),
            of_invoice(),
        ),
        {"product": _PRODUCTS, "kind": ("quantity", "void")},
    ),
    ListPage(
        "subscriptions",
        "usageconflict",
        "Usage conflicts",
        "Usage conflict",
        admin_usage_lists.CONFLICTS,
        (
            Column("event_id", "Event", "code"),
            of_organization(),
            Column("product", "Product"),
            Column("received_at", "Received", "time"),
            Column("kept", "Kept: this one counts", "contents"),
            Column("refused", "Refused", "contents"),
            Column("settled", "Settled", "yes"),
        ),
        {"product": _PRODUCTS},
    ),
)
