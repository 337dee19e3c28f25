"""The one table of the API: every path, who may call it, what goes in and what comes out."""

from web import (
    access,
    catalog,
    clocks,
    closing,
    credit_notes,
    current_usage,
    health,
    invoices,
    keys,
    moves,
    openapi,
    organizations,
    releasing,
    sale_terms,
    subscriptions,
    usage,
    webhooks,
)
from web.calls import Route

DESCRIBED: tuple[Route, ...] = (
    *webhooks.ROUTES,
    *usage.ROUTES,
    *current_usage.ROUTES,
    *catalog.ROUTES,
    *organizations.ROUTES,
    *sale_terms.ROUTES,
    *keys.ROUTES,
    *subscriptions.ROUTES,
    *moves.ROUTES,
    *invoices.ROUTES,
    *credit_notes.ROUTES,
    *closing.ROUTES,
    *releasing.ROUTES,
    *access.ROUTES,
    *clocks.ROUTES,
    *health.ROUTES,
)

TABLE: tuple[Route, ...] = (*DESCRIBED, *openapi.routes(DESCRIBED))
