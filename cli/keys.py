"""Issue a key by the names that people use."""

from datetime import timedelta
from typing import get_args

from billing.errors import NotFound
from models import reading
from models.catalog import Product
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
    lifetime: timedelta | None = None,
) -> str:
    """Make a key bound to a product's code or an organization's reference; returns its text.

    Raises InvalidTerms when kind and binding do not fit, NotFound.
    """
    _, text = keys.issue(
        context,
        next(known for known in get_args(keys.KeyKind) if known == kind),
        name,
        product_id=_product_row(context, product).id if product else None,
        organization_id=resolve(context, organization) if organization else None,
        expires_at=context.wall() + lifetime if lifetime else None,
    )
    return text


def _product_row(context: Context, code: str) -> Product:
    with context.database.system() as session:
        product = reading.product_by_code(session, code)
    if product is None:
        raise NotFound("no such product", field="product")
    return product
