"""What a fresh system needs before anybody can use it."""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.errors import Conflict
from tasks import catalog, stripe_catalog, users
from tasks.context import Context


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was there afterwards."""

    catalog: catalog.SeedReport
    stripe: stripe_catalog.SyncReport


def prepare(context: Context, environment: Mapping[str, str]) -> Prepared:
    """Seed the catalog, bring it to Stripe, add the admin of ADMIN_EMAIL; repeats do nothing."""
    seeded = catalog.seed(context)
    synced = stripe_catalog.sync(context)
    email, password = environment.get("ADMIN_EMAIL"), environment.get("ADMIN_PASSWORD")
    if email and password:
        try:
            users.create_user(context, email, password)
        except Conflict:
            # There from an earlier start; the password of this one is the one that is shown.
            users.set_password(context, email, password)
    return Prepared(seeded, synced)
