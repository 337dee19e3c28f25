"""Keys by the names that people use: issue, describe."""

from datetime import datetime, timedelta
from typing import get_args

from billing.errors import NotFound
from models import credentials, reading
from models.catalog import Product
from models.credentials import ListedKey
from tasks import keys
from tasks.context import Context
from tasks.organizations import resolve


def issue_bound(
    context: Context,
    kind: str,
    name: str,
    *,
    product: str | None = None,
    organization: str | None = None,
    scope: str | None = None,
    lifetime: timedelta | None = None,
) -> str:
    """Make a key bound to a product's code or an organization's reference; returns its text.

    Without a scope it is good for all. Raises InvalidTerms when kind and binding do not fit, NotFound.
    """
    terms = keys.KeyTerms(
        kind=next(known for known in get_args(keys.KeyKind) if known == kind),
        name=name,
        product_id=_product_row(context, product).id if product else None,
        organization_id=resolve(context, organization) if organization else None,
        scopes=tuple(known for known in keys.ALL_SCOPES if scope in (None, known)),
        expires_at=context.wall() + lifetime if lifetime else None,
    )
    return keys.issue_terms(context, terms)[1]


def described_keys(
    context: Context,
    *,
    kind: str | None = None,
    product: str | None = None,
    organization: str | None = None,
    dead_too: bool = False,
) -> list[str]:
    """One line for each key, newest first; only live ones, unless `dead_too`. Raises NotFound."""
    product_id = _product_row(context, product).id if product else None
    organization_id = resolve(context, organization) if organization else None
    now = context.wall()
    with context.database.system() as session:
        found = credentials.listed_keys(
            session,
            now,
            kind=kind,
            product_id=product_id,
            organization_id=organization_id,
            dead_too=dead_too,
        )
    return [_described(listed, now) for listed in found]


def _described(listed: ListedKey, now: datetime) -> str:
    key = listed.key
    parts = [
        str(key.id),
        f"...{key.last_four}",
        key.kind + (f" {listed.bound_to}" if listed.bound_to else ""),
        repr(key.name),
        "+".join(key.scopes),
        f"made {key.created_at:%Y-%m-%d}",
        f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used",
    ]
    if key.revoked_at is not None:
        parts.append(f"revoked {key.revoked_at:%Y-%m-%d}")
    elif key.expires_at is not None:
        word = "expired" if key.expires_at <= now else "expires"
        parts.append(f"{word} {key.expires_at:%Y-%m-%d %H:%M}")
    return "  ".join(parts)


def _product_row(context: Context, code: str) -> Product:
    with context.database.system() as session:
        product = reading.product_by_code(session, code)
    if product is None:
        raise NotFound("no such product", field="product")
    return product
