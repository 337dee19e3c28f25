"""Which lists the admin has, where, and how each column is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from models import admin_lists
from models.admin_lists import ListQuery

Kind = Literal["text", "word", "code", "time", "money", "number", "badge", "yes", "json", "prices", "product"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the row's field, its heading, and how its value is shown.

    `page` and `key` make the value a link to another row: of which page, and by which field.
    """

    field: str
    label: str
    kind: Kind = "text"
    page: str = ""
    key: str = "id"


@dataclass(frozen=True, slots=True)
class ListPage:
    """One list of the admin, at `/admin/<area>/<name>/`.

    `choices` are the filters offered as menus; every filter of the query works in the address.
    `related` are lists shown under a row: title, page, and the filter that takes the row's id.
    """

    area: str
    name: str
    title: str
    one: str
    query: ListQuery
    columns: tuple[Column, ...]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    related: tuple[tuple[str, str, str], ...] = ()
    # A list that is only shown under a row of another.
    inner: bool = False

    @property
    def path(self) -> str:
        return f"{self.area}/{self.name}"


def _of_organization() -> Column:
    return Column("organization", "Organization", page="organizations/organization", key="organization_id")


def _of_invoice() -> Column:
    return Column("invoice", "Invoice", "code", page="billing/invoice", key="invoice_id")


_SUBSCRIPTION_STATES = (
    "incomplete",
    "incomplete_expired",
    "trialing",
    "active",
    "past_due",
    "paused",
    "cancelled",
)
_WORK_STATES = ("queued", "running", "done", "dead")
_YES_NO = ("true", "false")

PAGES: tuple[ListPage, ...] = (
    ListPage(
        "products",
        "product",
        "Products",
        "Product",
        admin_lists.PRODUCTS,
        (
            Column("name", "Product", "product", page="products/product"),
            Column("code", "Code", "code"),
            Column("status", "Status", "badge"),
            Column("billing_type", "Billing", "word"),
            Column("is_public", "Public", "yes"),
            Column("subscriptions", "Subscriptions", "number"),
            Column("stripe_product_id", "At Stripe", "code"),
        ),
        {"status": ("active", "inactive"), "billing_type": ("hybrid", "per_user", "flat", "usage")},
        (("Plans", "products/productplan", "product_id"),),
    ),
    ListPage(
        "products",
        "productplan",
        "Plans",
        "Plan",
        admin_lists.PLANS,
        (
            Column("code", "Plan", "code", page="products/productplan"),
            Column("product", "Product"),
            Column("tier", "Tier"),
            Column("version", "Version", "number"),
            Column("base_charge", "Base", "word"),
            Column("prices", "Prices", "prices"),
            Column("available_standalone", "Standalone", "yes"),
            Column("available_in_bundles", "In bundles", "yes"),
            Column("subscriptions", "Subscriptions", "number"),
            Column("superseded_at", "Superseded", "time"),
        ),
        {
            "product": ("autoflow", "buildeasy", "teamspace"),
            "tier": ("starter", "professional", "enterprise"),
        },
    ),
    ListPage(
        "products",
        "subscriptionbundle",
        "Bundles",
        "Bundle",
        admin_lists.BUNDLES,
        (
            Column("name", "Bundle", page="products/subscriptionbundle"),
            Column("code", "Code", "code"),
            Column("members", "Members"),
            Column("prices", "Prices", "prices"),
            Column("is_featured", "Featured", "yes"),
            Column("is_public", "Public", "yes"),
            Column("subscriptions", "Subscriptions", "number"),
        ),
    ),
    ListPage(
        "organizations",
        "organization",
        "Organizations",
        "Organization",
        admin_lists.ORGANIZATIONS,
        (
            Column("name", "Organization", page="organizations/organization"),
            Column("slug", "Slug", "code"),
            Column("email", "E-mail"),
            Column("currency", "Currency"),
            Column("subscriptions", "Subscriptions", "number"),
            Column("clock", "Test clock"),
            Column("clock_at", "Stands at", "time"),
            Column("parked_at", "Parked", "time"),
            Column("stripe_customer_id", "At Stripe", "code"),
        ),
        {"currency": ("USD", "ZAR"), "parked": _YES_NO},
        (
            ("Subscriptions", "subscriptions/productsubscription", "organization"),
            ("Invoices", "billing/invoice", "organization"),
            ("Dunning", "billing/dunningcase", "organization"),
            ("Mails and webhooks", "ops/mail", "organization"),
        ),
    ),
    ListPage(
        "subscriptions",
        "productsubscription",
        "Subscriptions",
        "Subscription",
        admin_lists.SUBSCRIPTIONS,
        (
            Column("subscribed_to", "Subscribed to", "code", page="subscriptions/productsubscription"),
            _of_organization(),
            Column("status", "Status", "badge"),
            Column("quantity", "Seats", "number"),
            Column("interval", "Interval"),
            Column("currency", "Currency"),
            Column("current_period_end_at", "Renews", "time"),
            Column("days_left", "Days left", "number"),
            Column("trial_end_at", "Trial ends", "time"),
            Column("cancel_at_period_end", "Ends then", "yes"),
        ),
        {"status": _SUBSCRIPTION_STATES, "currency": ("USD", "ZAR")},
        (
            ("Items", "subscriptions/item", "subscription"),
            ("Invoices", "billing/invoice", "subscription"),
        ),
    ),
    ListPage(
        "subscriptions",
        "item",
        "Items",
        "Item",
        admin_lists.ITEMS,
        (
            Column("product", "Product"),
            Column("plan", "Plan", "code"),
            Column("quantity", "Quantity", "number"),
            Column("amount_minor", "Price", "money"),
            Column("interval", "Interval"),
            Column("started_at", "From", "time"),
            Column("ended_at", "Until", "time"),
            Column("stripe_item_id", "At Stripe", "code"),
        ),
        inner=True,
    ),
    ListPage(
        "subscriptions",
        "usagerecord",
        "Usage records",
        "Usage record",
        admin_lists.USAGE,
        (
            Column("event_id", "Event", "code"),
            _of_organization(),
            Column("product", "Product"),
            Column("metric", "Metric", "code"),
            Column("quantity", "Quantity", "number"),
            Column("occurred_at", "Happened", "time"),
            Column("state", "State", "badge"),
            Column("late", "Late", "yes"),
            Column("reason", "Reason"),
            _of_invoice(),
        ),
        {"state": ("waiting", "rated", "quarantined"), "product": ("autoflow", "buildeasy", "teamspace")},
    ),
    ListPage(
        "subscriptions",
        "usageconflict",
        "Usage conflicts",
        "Usage conflict",
        admin_lists.CONFLICTS,
        (
            Column("event_id", "Event", "code"),
            _of_organization(),
            Column("product", "Product"),
            Column("received_at", "Received", "time"),
            Column("event", "The refused copy", "json"),
        ),
    ),
    ListPage(
        "billing",
        "invoice",
        "Invoices",
        "Invoice",
        admin_lists.INVOICES,
        (
            Column("number", "Number", "code", page="billing/invoice"),
            _of_organization(),
            Column("kind", "Kind"),
            Column("status", "Status", "badge"),
            Column("period_start_at", "From", "time"),
            Column("period_end_at", "Until", "time"),
            Column("total_minor", "Total", "money"),
            Column("paid_minor", "Paid", "money"),
            Column("finalized_at", "Finalized", "time"),
            Column("parked_reason", "Parked because"),
        ),
        {
            "status": ("draft", "open", "paid", "void", "uncollectible"),
            "kind": ("first", "cycle", "final", "adjustment"),
            "currency": ("USD", "ZAR"),
            "parked": _YES_NO,
        },
        (
            ("Lines", "billing/line", "invoice"),
            ("Payments", "billing/payment", "invoice"),
            ("Dunning", "billing/dunningcase", "invoice"),
        ),
    ),
    ListPage(
        "billing",
        "line",
        "Invoice lines",
        "Invoice line",
        admin_lists.LINES,
        (
            Column("kind", "Kind"),
            Column("description", "Description"),
            Column("quantity", "Quantity", "number"),
            Column("amount_minor", "Amount", "money"),
            Column("discount_minor", "Discount", "money"),
            Column("tax_minor", "Tax", "money"),
            Column("period_start_at", "From", "time"),
            Column("period_end_at", "Until", "time"),
            Column("explanation", "Why", "json"),
        ),
        inner=True,
    ),
    ListPage(
        "billing",
        "payment",
        "Payments",
        "Payment",
        admin_lists.PAYMENTS,
        (
            Column("attempted_at", "Attempted", "time", page="billing/payment"),
            _of_organization(),
            _of_invoice(),
            Column("attempt", "Attempt", "number"),
            Column("amount_minor", "Amount", "money"),
            Column("status", "Status", "badge"),
            Column("decline_code", "Decline", "code"),
            Column("settled_at", "Settled", "time"),
        ),
        {"status": ("pending", "succeeded", "failed", "unknown", "refunded")},
    ),
    ListPage(
        "billing",
        "dunningcase",
        "Dunning",
        "Dunning case",
        admin_lists.CASES,
        (
            Column("first_failed_at", "First failed", "time", page="billing/dunningcase"),
            _of_organization(),
            _of_invoice(),
            Column("total_minor", "Total", "money"),
            Column("state", "State", "badge"),
            Column("retries_done", "Retries", "number"),
            Column("next_attempt_at", "Next try", "time"),
            Column("grace_until_at", "Grace until", "time"),
            Column("decline_code", "Decline", "code"),
            Column("closed_at", "Closed", "time"),
        ),
        {"state": ("open", "recovered", "stopped")},
        (("What happened", "billing/dunningstep", "case"),),
    ),
    ListPage(
        "billing",
        "dunningstep",
        "Steps",
        "Step",
        admin_lists.STEPS,
        (Column("at", "At", "time"), Column("kind", "Step", "badge"), Column("detail", "Detail")),
        inner=True,
    ),
    ListPage(
        "ops",
        "job",
        "Jobs",
        "Job",
        admin_lists.JOBS,
        (
            Column("kind", "Kind", "code", page="ops/job"),
            _of_organization(),
            Column("state", "State", "badge"),
            Column("attempts", "Attempts", "number"),
            Column("deferrals", "Put back", "number"),
            Column("due_at", "Due", "time"),
            Column("finished_at", "Finished", "time"),
            Column("last_error", "Last error"),
        ),
        {"state": _WORK_STATES},
    ),
    ListPage(
        "ops",
        "webhook",
        "Webhook inbox",
        "Webhook event",
        admin_lists.WEBHOOKS,
        (
            Column("type", "Type", "code", page="ops/webhook"),
            Column("object_id", "Object", "code"),
            Column("state", "State", "badge"),
            Column("attempts", "Attempts", "number"),
            Column("source", "Source"),
            Column("received_at", "Received", "time"),
            Column("handled_at", "Handled", "time"),
            Column("last_error", "Last error"),
        ),
        {"state": _WORK_STATES, "source": ("delivered", "imported")},
    ),
    ListPage(
        "ops",
        "batch",
        "Usage batches",
        "Usage batch",
        admin_lists.BATCHES,
        (
            Column("received_at", "Received", "time", page="ops/batch"),
            Column("product", "Product"),
            Column("accepted", "Accepted", "number"),
            Column("duplicates", "Duplicates", "number"),
            Column("state", "State", "badge"),
            Column("attempts", "Attempts", "number"),
            Column("handled_at", "Opened", "time"),
            Column("idempotency_key", "Key", "code"),
            Column("last_error", "Last error"),
        ),
        {"state": _WORK_STATES, "product": ("autoflow", "buildeasy", "teamspace")},
        (("Usage records", "subscriptions/usagerecord", "batch"),),
    ),
    ListPage(
        "ops",
        "stripecall",
        "Calls to Stripe",
        "Call to Stripe",
        admin_lists.CALLS,
        (
            Column("operation", "Operation", "code", page="ops/stripecall"),
            Column("object_id", "Object", "code"),
            _of_organization(),
            Column("state", "State", "badge"),
            Column("sends", "Sent", "number"),
            Column("created_at", "Intended", "time"),
            Column("resolved_at", "Resolved", "time"),
            Column("request_id", "Request", "code"),
        ),
        {"state": ("prepared", "unknown", "succeeded", "declined", "refused")},
    ),
    ListPage(
        "ops",
        "reconciliation",
        "Reconciliations",
        "Reconciliation",
        admin_lists.RECONCILIATIONS,
        (
            Column("started_at", "Started", "time", page="ops/reconciliation"),
            Column("finished_at", "Finished", "time"),
            Column("compared", "Compared", "json"),
            Column("differences", "Differences", "number"),
        ),
    ),
    ListPage(
        "ops",
        "mail",
        "Mailbox",
        "Message",
        admin_lists.MAILS,
        (
            Column("subject", "Subject", page="ops/mail"),
            _of_organization(),
            Column("recipient", "To"),
            Column("channel", "Channel"),
            Column("kind", "Kind", "code"),
            Column("state", "State", "badge"),
            Column("created_at", "Written", "time"),
            Column("sent_at", "Sent", "time"),
        ),
        {"channel": ("mail", "webhook"), "state": ("queued", "sent", "kept")},
    ),
    ListPage(
        "ops",
        "key",
        "API keys",
        "API key",
        admin_lists.KEYS,
        (
            Column("name", "Name"),
            Column("kind", "Kind", "badge"),
            Column("bound_to", "Bound to"),
            Column("last_four", "Ends in", "code"),
            Column("created_at", "Made", "time"),
            Column("expires_at", "Expires", "time"),
            Column("revoked_at", "Revoked", "time"),
        ),
        {"kind": ("product", "organization", "admin")},
    ),
    ListPage(
        "ops",
        "audit",
        "Audit log",
        "Audit entry",
        admin_lists.AUDIT,
        (
            Column("at", "At", "time"),
            Column("actor", "Who"),
            Column("action", "Did", "code"),
            Column("object_type", "To"),
            Column("object_id", "Which", "code"),
            Column("detail", "Detail", "json"),
        ),
    ),
)

BY_PATH = {page.path: page for page in PAGES}

# The menu: a heading and its pages.
MENU: tuple[tuple[str, tuple[ListPage, ...]], ...] = tuple(
    (heading, tuple(page for page in PAGES if page.area == area and not page.inner))
    for heading, area in (
        ("Customers", "organizations"),
        ("Subscriptions", "subscriptions"),
        ("Billing", "billing"),
        ("Catalog", "products"),
        ("Operations", "ops"),
    )
)
