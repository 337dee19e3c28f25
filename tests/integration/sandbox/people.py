"""The cast of the stories: a clock, a small catalog, customers with cards."""

import itertools
from typing import Any

from tests.integration.sandbox.local import Local, at

_NUMBERS = itertools.count(1)


class Town:
    """A test clock and what happens on it."""

    def __init__(self, local: Local, now: str = "2026-01-31 10:00") -> None:
        self.local = local
        self.api = local.api
        self.clock = self.api.test_helpers.test_clocks.create({"frozen_time": at(now)}).id

    def price(self, amount: int = 30_00, interval: str = "month", **more: Any) -> Any:
        """A recurring USD price of a product of its own."""
        product = self.api.products.create({"name": f"Product {next(_NUMBERS)}"})
        recurring = {"interval": interval, "interval_count": more.pop("count", 1)}
        terms = {"product": product.id, "currency": "usd", "unit_amount": amount, "recurring": recurring}
        return self.api.prices.create({**terms, **more})

    def customer(self, card: str | None = "pm_card_visa", **more: Any) -> Any:
        """A customer on the clock, with a default card unless None."""
        terms: dict[str, Any] = {"email": "ada@example.com", "test_clock": self.clock}
        if card:
            terms |= {"payment_method": card, "invoice_settings": {"default_payment_method": card}}
        return self.api.customers.create({**terms, **more})

    def subscribe(self, customer: Any, *prices: Any, **more: Any) -> Any:
        """Subscribe to one of each price, or to `(price, quantity)` pairs."""
        items = [
            {"price": entry[0].id, "quantity": entry[1]} if isinstance(entry, tuple) else {"price": entry.id}
            for entry in prices
        ]
        return self.api.subscriptions.create({"customer": customer.id, "items": items, **more})

    def to(self, moment: str) -> None:
        """Let time pass."""
        self.local.advance(self.clock, moment)

    def invoices(self, customer: Any) -> list[Any]:
        """The customer's invoices, oldest first."""
        return list(self.api.invoices.list({"customer": customer.id, "limit": 100}).data)[::-1]

    def again(self, subscription: Any) -> Any:
        """The subscription as it is now."""
        return self.api.subscriptions.retrieve(subscription.id)
