"""Builders refuse what Stripe would misunderstand, before a row is written."""

import pickle

import pytest

from gateway import requests
from gateway.errors import Declined, GatewayError, Refused, Throttled, UnknownVersion, Unreachable
from gateway.operations import FETCHES, OPERATIONS


def line(**changes: object) -> requests.Line:
    plain: requests.Line = {"description": "runs", "amount_minor": 100, "period_start": 1, "period_end": 2}
    return plain | changes  # type: ignore[return-value]


def test_lines_carry_our_own_amounts_and_no_price() -> None:
    [sent] = requests.add_lines("in_1", [line(amount_minor=-250, product="autoflow")]).params["lines"]
    assert sent == {
        "amount": -250,
        "description": "runs",
        "period": {"start": 1, "end": 2},
        "discountable": False,
        "metadata": {"product": "autoflow"},
    }


def test_a_discount_reaches_our_lines_only_when_we_say_so() -> None:
    sent = requests.add_lines("in_1", [line(), line(discountable=True)]).params["lines"]
    assert [entry["discountable"] for entry in sent] == [False, True]


@pytest.mark.parametrize("count", [0, 251])
def test_an_invoice_takes_one_to_250_lines(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 250 lines"):
        requests.add_lines("in_1", [line()] * count)


def test_a_change_of_price_must_name_its_quantity() -> None:
    with pytest.raises(ValueError, match="must name its quantity"):
        requests.update_subscription("sub_1", items=[{"id": "si_1", "price": "price_2"}])


def test_an_empty_sequence_clears_and_none_leaves() -> None:
    assert requests.update_subscription("sub_1", kept_discounts=[], default_tax_rates=[]).params == {
        "discounts": "",
        "default_tax_rates": "",
    }
    assert requests.update_subscription("sub_1").params == {}


def test_a_trial_that_ends_without_a_card_makes_an_invoice() -> None:
    params = requests.create_subscription("cus_1", [{"price": "price_1"}], metadata={"s": 1}).params
    assert params["trial_settings"] == {"end_behavior": {"missing_payment_method": "create_invoice"}}
    assert params["billing_mode"] == {"type": "flexible"}
    assert "off_session" not in params


def test_our_own_invoices_are_never_collected_by_stripe() -> None:
    params = requests.create_invoice("cus_1", "USD", {"invoice_id": "i-1"}).params
    assert params["auto_advance"] is False
    assert params["pending_invoice_items_behavior"] == "exclude"
    assert params["metadata"] == {"invoice_id": "i-1", "owner": "dunlin"}
    assert requests.take_over_invoice("in_1").params == {
        "auto_advance": False,
        "metadata": {"owner": "dunlin"},
    }
    assert requests.finalize_invoice("in_1").params["auto_advance"] is False


def test_a_quarter_is_three_months() -> None:
    params = requests.create_price("prod_1", "USD", "quarter", 9975, lookup_key="k").params
    assert params["recurring"] == {"interval": "month", "interval_count": 3}
    assert (params["currency"], params["transfer_lookup_key"]) == ("usd", True)


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"percent_off": "10", "amount_off_minor": 5, "currency": "USD"},
        {"amount_off_minor": 5},
        {"percent_off": "10", "currency": "USD"},
        {"percent_off": "10", "duration": "repeating"},
        {"percent_off": "10", "duration_in_months": 3},
    ],
)
def test_a_coupon_that_contradicts_itself_is_refused(terms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"amount_off_minor|duration"):
        requests.create_coupon("Tenth", **terms)  # type: ignore[arg-type]


def test_a_credit_note_is_of_lines_or_of_an_amount() -> None:
    with pytest.raises(ValueError, match="either lines or amount_minor"):
        requests.create_credit_note("in_1")
    with pytest.raises(ValueError, match="either lines or amount_minor"):
        requests.create_credit_note("in_1", lines=[{"invoice_line_item": "il_1"}], amount_minor=1)


def test_metadata_is_text_and_bounded() -> None:
    params = requests.create_refund("pi_1", metadata={"refund_id": 7}).params
    assert params["metadata"] == {"refund_id": "7"}
    with pytest.raises(ValueError, match="at most 50"):
        requests.create_refund("pi_1", metadata={str(n): n for n in range(51)})


def test_an_id_that_we_chose_is_taken() -> None:
    assert FETCHES["coupon"].url("bundle-starter_2026") == "/v1/coupons/bundle-starter_2026"


def test_an_id_that_could_leave_its_path_is_refused() -> None:
    for unsafe in (None, "", "in_1/pay", "../v1/accounts", "in 1", "in_1?x=y", "in_é", "in_1\n"):
        with pytest.raises(ValueError, match="needs an id"):
            OPERATIONS["pay_invoice"].url(unsafe)


@pytest.mark.parametrize(
    "error",
    [
        Throttled("slow", retry_after_s=3, request_id="req_1"),
        Unreachable("gone", request_id=None),
        Declined("no", code="card_declined", decline_code="lost_card", payment_intent_id="pi_1"),
        Refused("no", code="resource_missing", param="customer"),
        UnknownVersion("2017-08-15"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_the_way_between_processes(error: GatewayError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes of a line ago
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
