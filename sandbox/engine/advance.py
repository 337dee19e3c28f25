"""What Stripe does by itself with a finalized invoice: settle it when nothing is due, else attempt it."""

from .. import Doc
from ..errors import ApiError
from ..times import HOUR
from ..world import World, clock_of
from . import collect, standing
from .invoices import finalize, mark_uncollectible, void


def finalize_and_settle(world: World, invoice: Doc, *, auto_advance: bool | None = None) -> None:
    """Finalize; nothing due is paid at once; one that nobody attempts makes its subscription past due."""
    finalize(world, invoice, auto_advance=auto_advance)
    if invoice["amount_due"] == 0:
        collect.settle(world, invoice, 0)
    elif invoice["_subscription"]:
        world.tx.set_timer(world.now_of(invoice) + HOUR, clock_of(invoice), "unattempted", invoice["id"])


def collect_automatically(world: World, invoice: Doc) -> ApiError | None:
    """Stripe's own attempt; nothing for invoices that are sent, paid, or not to advance."""
    if (
        invoice["status"] != "open"
        or not invoice["auto_advance"]
        or invoice["collection_method"] == "send_invoice"
    ):
        return None
    return collect.try_to_pay(world, invoice, collect.Attempt(automatic=True))


def advance_draft(world: World, invoice: Doc) -> None:
    """The hour is over: finalize and attempt, or do what the subscription's paused collection says."""
    subscription = standing.subscription_of(world, invoice)
    pause = subscription["pause_collection"] if subscription else None
    finalize_and_settle(world, invoice)
    if invoice["status"] == "open" and pause and pause["behavior"] == "void":
        void(world, invoice)
    elif invoice["status"] == "open" and pause and pause["behavior"] == "mark_uncollectible":
        mark_uncollectible(world, invoice, "subscription_paused")
    else:
        collect_automatically(world, invoice)


def note_unattempted(world: World, invoice: Doc) -> None:
    """An hour after finalization nobody tried to collect: the subscription is past due."""
    if (
        invoice["status"] == "open"
        and not invoice["attempted"]
        and invoice["collection_method"] != "send_invoice"
    ):
        standing.after_failure(world, invoice)


def attempt_once(world: World, invoice: Doc) -> None:
    """The attempt that Stripe makes an hour after a finalization by hand, if nobody was quicker."""
    if not invoice["attempted"]:
        collect_automatically(world, invoice)
