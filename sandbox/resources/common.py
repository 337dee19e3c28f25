"""What several resources share: small shapes, required parameters, plain updates, deletions."""

from collections.abc import Iterable
from typing import Any

from .. import Doc
from ..engine.items import merged_metadata
from ..errors import malformed
from ..forms import BOOL, STR, Shape

ADDRESS: dict[str, Shape] = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), STR)
DISCOUNTS: Shape = [{"coupon": STR, "discount": STR, "promotion_code": STR}]
AUTOMATIC_TAX: dict[str, Shape] = {"enabled": BOOL, "liability": {"account": STR, "type": STR}}


def require(params: dict[str, Any], *names: str) -> None:
    """Raises: ApiError 400 `parameter_missing` for the first name that is absent."""
    for name in names:
        if params.get(name) is None or params[name] == "":
            raise malformed(f"Missing required param: {name}.", param=name, code="parameter_missing")


def update_plain(doc: Doc, params: dict[str, Any], names: Iterable[str]) -> None:
    """Set the named fields that the request gives; an empty string clears; metadata merges."""
    for name in names:
        if name in params:
            doc[name] = None if params[name] == "" else params[name]
    if "metadata" in params:
        doc["metadata"] = merged_metadata(doc["metadata"], params["metadata"])


def address_of(given: Any) -> Doc | None:
    """An address with all its fields, or None."""
    return dict.fromkeys(ADDRESS) | given if given else None


def deleted(doc: Doc) -> Doc:
    return {"id": doc["id"], "object": doc["object"], "deleted": True}
