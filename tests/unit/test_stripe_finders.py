"""Every call of ours whose answer may be lost can be found at Stripe, or says why it need not be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.client import StripeGateway
from gateway.errors import Refused
from gateway.operations import OPERATIONS
from models.ops import StripeCall
from tasks import stripe_finders

CLOCK = {"name": "ada", "frozen_time": 100}


@dataclass
class Shown:
    """What Stripe shows: objects by id, and lists by kind and filters."""

    objects: Mapping[str, Any] = field(default_factory=dict)
    lists: Mapping[str, list[Any]] = field(default_factory=dict)

    def fetch(self, kind: str, object_id: str, expand: object = ()) -> Any:
        if object_id not in self.objects:
            raise Refused(f"no such {kind}", code="resource_missing", param=None, request_id=None)
        return self.objects[object_id]

    def list(self, kind: str, filters: Mapping[str, Any]) -> Iterator[Any]:
        return iter(self.lists.get(kind, []))


def found(shown: Shown, operation: str, params: Any, object_id: str | None = None) -> Any:
    intention = StripeCall(operation=operation, object_id=object_id, params=params)
    return stripe_finders.find(cast(StripeGateway, shown), intention)


def test_no_operation_is_forgotten() -> None:
    assert stripe_finders.sought() | stripe_finders.UNSOUGHT.keys() == OPERATIONS.keys()
    assert not stripe_finders.sought() & stripe_finders.UNSOUGHT.keys()


@pytest.mark.parametrize("other", [{}, {"credit_entry_id": "e-2"}])
def test_credit_is_found_by_the_entry_that_it_names(other: dict[str, str]) -> None:
    params = {"amount": -5_00, "currency": "usd", "metadata": {"credit_entry_id": "e-1"}}
    mine = {"id": "cbtxn_1", "metadata": {"credit_entry_id": "e-1"}}
    strange = {"id": "cbtxn_2", "metadata": other}

    def look(*listed: Any) -> Any:
        shown = Shown(lists={"customer_balance_transaction": list(listed)})
        return found(shown, "create_balance_transaction", params, "cus_1")

    assert look(strange, mine) is mine
    assert look(strange) is None


def test_what_was_made_without_words_of_ours_is_not_mistaken_for_another() -> None:
    shown = Shown(lists={"refund": [{"id": "re_1", "metadata": {}}]})
    assert found(shown, "create_refund", {"payment_intent": "pi_1", "amount": 1_00}) is None


def test_lines_beyond_the_first_page_are_there_too() -> None:
    lines = [{"metadata": {"line_id": f"l-{number}"}} for number in range(12)]
    at_stripe = [
        {
            "id": f"il_{number}",
            "amount": 1,
            "period": {"start": 1, "end": 2},
            "metadata": {"line_id": f"l-{number}"},
        }
        for number in range(12)
    ]
    invoice = {"id": "in_1", "lines": {"data": at_stripe[:10], "has_more": True}}

    def look(count: int) -> Any:
        shown = Shown({"in_1": invoice}, {"invoice_line": at_stripe[:count]})
        return found(shown, "add_lines", {"lines": lines}, "in_1")

    assert look(12) is invoice
    assert look(11) is None


@pytest.mark.parametrize(
    ("params", "there"),
    [
        ({"items": [{"id": "si_1", "price": "price_1", "quantity": 3}]}, True),
        ({"items": [{"id": "si_1", "price": "price_1", "quantity": 4}]}, False),
        ({"items": [{"id": "si_1", "price": "price_2", "quantity": 3}]}, False),
        ({"items": [{"id": "si_2", "deleted": True}]}, True),
        ({"items": [{"id": "si_1", "deleted": True}]}, False),
        ({"cancel_at_period_end": True}, True),
        ({"cancel_at_period_end": False}, False),
        ({"default_tax_rates": ["txr_1"], "proration_behavior": "none"}, True),
        ({"default_tax_rates": ["txr_2"]}, False),
        ({"default_tax_rates": ""}, False),
        ({"discounts": [{"discount": "di_1"}]}, True),
        ({"discounts": [{"coupon": "c1"}]}, True),
        ({"discounts": ""}, False),
        ({"metadata": {"plan": "2"}}, True),
        ({"metadata": {"plan": "3"}}, False),
    ],
)
def test_a_change_is_found_when_the_subscription_has_what_it_named(
    params: dict[str, Any], there: bool
) -> None:
    subscription = {
        "id": "sub_1",
        "items": {"data": [{"id": "si_1", "price": {"id": "price_1"}, "quantity": 3}]},
        "cancel_at_period_end": True,
        "default_tax_rates": [{"id": "txr_1"}],
        "discounts": [{"id": "di_1", "source": {"coupon": "c1"}}],
        "metadata": {"plan": "2", "other": "x"},
    }
    shown = Shown({"sub_1": subscription})
    assert (found(shown, "update_subscription", params, "sub_1") is not None) is there


@pytest.mark.parametrize(
    ("params", "there"),
    [
        ({"name": "Ada", "address": ""}, True),
        ({"name": "Bea"}, False),
        ({"invoice_settings": {"default_payment_method": "pm_1"}}, True),
        ({"invoice_settings": {"default_payment_method": "pm_2"}}, False),
    ],
)
def test_a_customer_is_found_to_have_what_it_was_told(params: dict[str, Any], there: bool) -> None:
    customer = {
        "id": "cus_1",
        "name": "Ada",
        "address": None,
        "invoice_settings": {"default_payment_method": "pm_1"},
    }
    assert (found(Shown({"cus_1": customer}), "update_customer", params, "cus_1") is not None) is there


@pytest.mark.parametrize(
    ("operation", "object_", "there"),
    [
        ("pause_subscription", {"status": "paused"}, True),
        ("pause_subscription", {"status": "active"}, False),
        ("resume_subscription", {"status": "active"}, True),
        ("resume_subscription", {"status": "paused"}, False),
        ("detach_payment_method", {"customer": None}, True),
        ("detach_payment_method", {"customer": "cus_1"}, False),
        ("delete_invoice", None, True),
        ("delete_invoice", {"status": "draft"}, False),
    ],
)
def test_an_end_is_found_in_the_objects_state(operation: str, object_: Any, there: bool) -> None:
    shown = Shown({} if object_ is None else {"x_1": object_})
    assert (found(shown, operation, {}, "x_1") is not None) is there


@pytest.mark.parametrize(("moved_to", "there"), [(100, True), (101, False)])
def test_a_clock_is_found_by_its_name_and_time(moved_to: int, there: bool) -> None:
    shown = Shown(lists={"test_clock": [{"id": "clock_1", "name": "ada", "frozen_time": moved_to}]})
    assert (found(shown, "create_test_clock", CLOCK) is not None) is there


@pytest.mark.parametrize(
    ("clock", "there"),
    [
        ({"frozen_time": 100, "status_details": {}}, True),
        ({"frozen_time": 50, "status_details": {"advancing": {"target_frozen_time": 100}}}, True),
        ({"frozen_time": 50, "status_details": {"advancing": {"target_frozen_time": 99}}}, False),
        ({"frozen_time": 50, "status_details": {}}, False),
    ],
)
def test_a_clock_on_its_way_has_been_sent(clock: dict[str, Any], there: bool) -> None:
    """Sent again to the same instant it would be refused for ever."""
    shown = Shown({"clock_1": clock})
    assert (found(shown, "advance_test_clock", {"frozen_time": 100}, "clock_1") is not None) is there


@pytest.mark.parametrize(("card", "there"), [("pm_1", True), ("pm_card_visa", False)])
def test_a_card_is_found_among_its_customers(card: str, there: bool) -> None:
    shown = Shown(lists={"customer_payment_method": [{"id": "pm_1"}]})
    assert (found(shown, "attach_payment_method", {"customer": "cus_1"}, card) is not None) is there
