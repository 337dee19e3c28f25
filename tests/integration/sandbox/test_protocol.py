"""Around the objects: keys, versions, idempotency, cursors, expansions, clocks, faults, deliveries."""

import json
import queue
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import stripe

from tests.contract.judge import check_error
from tests.integration.sandbox.local import Local, at, await_, receiver, sandbox, start
from tests.integration.sandbox.people import Town

FORM = {"Content_Type": "application/x-www-form-urlencoded"}


# -- who may ask, and how -------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer sk_live_1"}, 401),
        ({"Authorization": "Bearer nonsense"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Basic c2tfdGVzdF94Og=="}, 200),
        ({"Stripe_Version": "2024-06-20"}, 400),
        ({"Stripe_Version": "2026-10-28.endive"}, 200),
    ],
)
def test_keys_and_versions(local: Local, headers: dict[str, str], status: int) -> None:
    answer, body, replied = local.ask("GET", "/v1/account", **headers)
    assert answer == status
    assert replied["Request-Id"].startswith("req_")
    assert status == 200 or check_error(body) == []


@pytest.mark.parametrize(
    ("path", "form", "code", "param"),
    [
        ("/v1/customers", "nonsense=1", "parameter_unknown", "nonsense"),
        (
            "/v1/prices",
            "currency=usd&product=p&recurring[inverval]=month",
            "parameter_unknown",
            "recurring[inverval]",
        ),
        ("/v1/prices", "currency=usd&product=p&unit_amount=1.5", "parameter_invalid_integer", "unit_amount"),
        ("/v1/subscriptions", "items[0][price]=x", "parameter_missing", "customer"),
        ("/v1/subscriptions", "customer=cus_none&items[0][price]=x", "resource_missing", "customer"),
    ],
)
def test_refusals_name_the_parameter(local: Local, path: str, form: str, code: str, param: str) -> None:
    status, body, _ = local.ask("POST", path, form, **FORM)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, code, param)
    assert check_error(body) == []


def test_what_is_not_there(local: Local) -> None:
    assert local.ask("GET", "/v1/customers/cus_none")[0] == 404
    status, body, _ = local.ask("GET", "/v1/quotes")
    assert (status, "Unrecognized request URL" in body["error"]["message"]) == (404, True)


# -- idempotency ----------------------------------------------------------------------


def test_the_first_reply_is_the_reply_for_ever(local: Local) -> None:
    form = "email=ada@example.com"
    first = local.ask("POST", "/v1/customers", form, Idempotency_Key="once", **FORM)
    again = local.ask("POST", "/v1/customers", form, Idempotency_Key="once", **FORM)
    assert (first[0], first[1]) == (again[0], again[1])
    assert ("Idempotent-Replayed" in first[2], again[2]["Idempotent-Replayed"]) == (False, "true")
    status, body, _ = local.ask(
        "POST", "/v1/customers", "email=b@example.com", Idempotency_Key="once", **FORM
    )
    assert (status, body["error"]["type"]) == (400, "idempotency_error")


def test_a_decline_is_replayed_and_a_mistake_is_not(local: Local) -> None:
    town = Town(local)
    ada = town.customer("pm_card_chargeCustomerFail")
    invoice = town.subscribe(ada, town.price()).latest_invoice
    path = f"/v1/invoices/{invoice}/pay"
    first = local.ask("POST", path, "", Idempotency_Key="pay:1")
    again = local.ask("POST", path, "", Idempotency_Key="pay:1")
    assert (first[0], again[0], first[1]) == (402, 402, again[1])
    assert len(town.api.charges.list({"customer": ada.id}).data) == 2
    local.ask("POST", "/v1/customers", "wrong=1", Idempotency_Key="mended", **FORM)
    assert local.ask("POST", "/v1/customers", "name=Ada", Idempotency_Key="mended", **FORM)[0] == 200


def test_the_same_key_at_the_same_time_is_refused(local: Local) -> None:
    town = Town(local)
    local.fault(once=[{"operation": "POST /v1/customers", "fault": "timeout_after"}], timeout_s=0.3)
    town_clock = f"test_clock={town.clock}"
    answers: queue.Queue[int] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(local.ask("POST", "/v1/customers", town_clock, Idempotency_Key="twins", **FORM)[0])
        except OSError:
            answers.put(0)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [answers.get_nowait() for _ in threads]
    assert set(seen) <= {0, 200, 409}
    assert seen.count(0) == 1
    assert len(local.read(f"/v1/customers?test_clock={town.clock}")["data"]) == 1


# -- lists and expansions -------------------------------------------------------------


def test_cursors_walk_both_ways(local: Local) -> None:
    town = Town(local)
    ada = town.customer()
    made = [
        town.api.invoice_items.create({"customer": ada.id, "amount": n, "currency": "usd"}).id
        for n in range(7)
    ]
    newest_first = made[::-1]
    page = town.api.invoice_items.list({"customer": ada.id, "limit": 3})
    assert ([row.id for row in page.data], page.has_more) == (newest_first[:3], True)
    page = town.api.invoice_items.list({"customer": ada.id, "limit": 3, "starting_after": newest_first[2]})
    assert ([row.id for row in page.data], page.has_more) == (newest_first[3:6], True)
    page = town.api.invoice_items.list({"customer": ada.id, "limit": 3, "ending_before": newest_first[3]})
    assert ([row.id for row in page.data], page.has_more) == (newest_first[:3], False)
    walked = [
        row.id for row in town.api.invoice_items.list({"customer": ada.id, "limit": 2}).auto_paging_iter()
    ]
    assert walked == newest_first
    with pytest.raises(stripe.InvalidRequestError):
        town.api.invoice_items.list({"limit": 101})


def test_lines_of_an_invoice_are_paged(local: Local) -> None:
    town = Town(local)
    invoice = town.api.invoices.create({"customer": town.customer().id})
    lines = [{"amount": number, "description": str(number)} for number in range(1, 26)]
    full = town.api.invoices.add_lines(invoice.id, {"lines": lines})
    assert (len(full.lines.data), full.lines.has_more, full.lines.total_count) == (10, True, 25)
    amounts = [line.amount for line in full.lines.auto_paging_iter()]
    assert amounts == list(range(1, 26))
    with pytest.raises(stripe.InvalidRequestError, match="250"):
        town.api.invoices.add_lines(invoice.id, {"lines": [{"amount": 1}] * 226})


def test_expansions_open_what_they_name_and_nothing_else(local: Local) -> None:
    town = Town(local)
    ada = town.customer()
    subscription = town.subscribe(
        ada, town.price(), expand=["customer.invoice_settings.default_payment_method"]
    )
    assert subscription.customer.invoice_settings.default_payment_method.card.last4 == "4242"
    listed = town.api.subscriptions.list({"customer": ada.id, "expand": ["data.latest_invoice.payments"]})
    assert listed.data[0].latest_invoice.payments.data[0].status == "paid"
    assert isinstance(town.again(subscription).latest_invoice, str)
    for wrong in ("metadata.foo", "status", "nothing", "customer.a.b.c.d"):
        with pytest.raises(stripe.InvalidRequestError, match="cannot"):
            town.api.subscriptions.retrieve(subscription.id, {"expand": [wrong]})


# -- test clocks ----------------------------------------------------------------------


def test_the_limits_of_a_clock(local: Local) -> None:
    town = Town(local)
    people = [town.customer() for _ in range(3)]
    with pytest.raises(stripe.InvalidRequestError, match="at most 3 customers"):
        town.customer()
    price = town.price()
    for _ in range(3):
        town.subscribe(people[0], price)
    with pytest.raises(stripe.InvalidRequestError, match="at most 3 subscriptions"):
        town.subscribe(people[0], price)
    advance = town.api.test_helpers.test_clocks.advance
    with pytest.raises(stripe.InvalidRequestError, match="after the current"):
        advance(town.clock, {"frozen_time": at("2026-01-31 10:00")})
    with pytest.raises(stripe.InvalidRequestError, match="two intervals"):
        advance(town.clock, {"frozen_time": at("2026-03-31 10:01")})
    town.to("2026-03-31 10:00")
    assert len(town.invoices(people[0])) == 9


def test_clocked_objects_hide_from_unfiltered_lists(local: Local) -> None:
    town = Town(local)
    ada = town.customer()
    town.subscribe(ada, town.price())
    assert ada.id not in [row.id for row in town.api.customers.list({"limit": 100}).data]
    assert [row.id for row in town.api.customers.list({"test_clock": town.clock}).data] == [ada.id]
    assert ada.id not in [row.customer for row in town.api.invoices.list({"limit": 100}).data]
    assert ada.created == at("2026-01-31 10:00")
    town.api.test_helpers.test_clocks.delete(town.clock)
    with pytest.raises(stripe.InvalidRequestError):
        town.api.customers.retrieve(ada.id)


def test_a_month_passes_in_a_fifth_of_a_second(local: Local) -> None:
    town = Town(local)
    town.subscribe(town.customer(), town.price())
    taken = []
    for moment in ("2026-02-28 12:00", "2026-03-31 12:00", "2026-04-30 12:00"):
        began = time.monotonic()
        town.to(moment)
        taken.append(time.monotonic() - began)
    # The best of three: the machine may be busy with something else.
    assert min(taken) < 0.2


# -- faults ---------------------------------------------------------------------------


def test_exact_faults_strike_once_and_then_no_more(local: Local) -> None:
    local.fault(once=[{"operation": "POST /v1/customers", "fault": "http_429"}])
    with pytest.raises(stripe.RateLimitError) as limited:
        local.api.customers.create({})
    assert limited.value.error is not None
    assert limited.value.error.code == "rate_limit"
    local.fault(once=[{"operation": "GET /v1/customers/{id}", "fault": "http_500_before"}])
    ada = local.api.customers.create({"name": "Ada"})
    with pytest.raises(stripe.APIError):
        local.api.customers.retrieve(ada.id)
    assert local.api.customers.retrieve(ada.id).name == "Ada"
    assert local.read("/_sandbox/faults")["once"] == []
    assert local.ask("POST", "/_sandbox/faults", {"http_418": 1})[0] == 400


def test_a_failure_after_the_effect_is_done_and_says_so_for_ever(local: Local) -> None:
    local.fault(once=[{"operation": "POST /v1/products", "fault": "http_500_after"}])
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            local.api.products.create({"name": "Ghost", "id": "ghost"}, {"idempotency_key": "ghost"})
    assert local.api.products.retrieve("ghost").name == "Ghost"


def test_a_lost_answer_is_found_again_under_its_key(local: Local) -> None:
    local.fault(once=[{"operation": "POST /v1/products", "fault": "timeout_after"}], timeout_s=0.05)
    with pytest.raises(stripe.APIConnectionError):
        local.api.products.create({"name": "Lost"}, {"idempotency_key": "lost"})
    found = local.api.products.create({"name": "Lost"}, {"idempotency_key": "lost"})
    assert [row.id for row in local.api.products.list({"limit": 100}).data if row.name == "Lost"] == [
        found.id
    ]


def test_chance_follows_its_seed() -> None:
    def answers() -> list[int]:
        with sandbox() as local:
            local.fault(http_429=0.3, http_500_before=0.1, seed=7)
            return [local.ask("GET", "/v1/balance")[0] for _ in range(30)]

    first = answers()
    assert set(first) == {200, 429, 500}
    assert first == answers()


# -- deliveries -----------------------------------------------------------------------


def test_events_arrive_signed_in_creation_order_and_refused_ones_again() -> None:
    with sandbox("--retry-after", "0.05,0.05") as local, receiver(500) as (url, box):
        endpoint = local.api.webhook_endpoints.create(
            {"url": url, "enabled_events": ["*"], "api_version": "2026-10-28.endive"}
        )
        product = local.api.products.create({"name": "Told"})
        local.settle()
        arrived = [box.get(timeout=5) for _ in range(2)]
        events = [stripe.Webhook.construct_event(body, mark, endpoint.secret) for body, mark in arrived]
        assert [event.type for event in events] == ["product.created"] * 2
        assert events[0].id == events[1].id
        assert events[0].data.object.id == product.id
        assert events[0].request.id.startswith("req_")
        assert box.empty()
        assert getattr(local.api.webhook_endpoints.retrieve(endpoint.id), "secret", None) is None


def test_an_endpoint_that_never_answers_is_given_up_and_its_events_can_be_found() -> None:
    with sandbox("--retry-after", "0.02,0.02") as local, receiver(500, 500, 500) as (url, box):
        local.api.webhook_endpoints.create({"url": url, "enabled_events": ["product.created"]})
        local.api.products.create({"name": "Unheard"})
        await_(lambda: not local.read("/_sandbox/state")["pending_deliveries"], "giving up")
        assert box.qsize() == 3
        [missed] = local.events(delivery_success="false")
        assert (missed["type"], missed["pending_webhooks"]) == ("product.created", 0)
        local.ask("POST", f"/_sandbox/events/{missed['id']}/resend", {})
        local.settle()
        assert box.qsize() == 4


@pytest.mark.parametrize(
    ("fault", "times"), [("webhook_duplicate", 2), ("webhook_drop", 0), ("webhook_delay", 1)]
)
def test_faulty_deliveries(fault: str, times: int) -> None:
    with sandbox() as local, receiver() as (url, box):
        local.api.webhook_endpoints.create({"url": url, "enabled_events": ["product.created"]})
        local.fault(once=[{"event": "product.created", "fault": fault}], delay_s=0.05)
        local.api.products.create({"name": "Told"})
        local.settle()
        assert box.qsize() == times


def test_a_reordered_delivery_comes_after_its_successor() -> None:
    with sandbox() as local, receiver() as (url, box):
        local.api.webhook_endpoints.create({"url": url, "enabled_events": ["product.created"]})
        local.fault(once=[{"event": "product.created", "fault": "webhook_reorder"}])
        names = ["first", "second"]
        for name in names:
            local.api.products.create({"name": name})
        local.settle()
        arrived = [json.loads(box.get_nowait()[0])["data"]["object"]["name"] for _ in names]
        assert arrived == ["second", "first"]


def test_a_rolled_secret_signs_beside_the_old_one() -> None:
    with sandbox() as local, receiver() as (url, box):
        endpoint = local.api.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
        fresh = local.ask("POST", f"/_sandbox/webhook_endpoints/{endpoint.id}/roll_secret", {})[1]["secret"]
        local.api.products.create({"name": "Told"})
        body, mark = box.get(timeout=5)
        assert [
            stripe.Webhook.construct_event(body, mark, secret).type for secret in (endpoint.secret, fresh)
        ] == ["product.created"] * 2


# -- life and death of the process ----------------------------------------------------


def test_a_killed_sandbox_goes_on_where_it_was(tmp_path: Path) -> None:
    state = str(tmp_path / "state.sqlite3")
    local = start("--state", state)
    try:
        town = Town(local)
        ada = town.customer()
        subscription = town.subscribe(ada, town.price())
        events = local.events()
        port = int(local.base.rpartition(":")[2])
        form = "email=ada@example.com"
        first = local.ask("POST", "/v1/customers", form, Idempotency_Key="kept", **FORM)
        local.process.send_signal(signal.SIGKILL)
        local.process.wait()
        local = start("--state", state, port=port)
        town.local = local
        assert local.events()[: len(events)] == events
        assert local.ask("POST", "/v1/customers", form, Idempotency_Key="kept", **FORM)[1] == first[1]
        town.to("2026-02-28 12:00")
        assert [invoice.status for invoice in town.invoices(ada)] == ["paid", "paid"]
        assert town.again(subscription).status == "active"
    finally:
        local.process.terminate()
        local.process.wait(timeout=10)


def test_a_clock_that_was_advancing_at_the_kill_arrives(tmp_path: Path) -> None:
    state = str(tmp_path / "state.sqlite3")
    local = start("--state", state)
    try:
        town = Town(local)
        ada = town.customer()
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
            town.api.webhook_endpoints.create({"url": url, "enabled_events": ["invoice.created"]})
            town.subscribe(ada, town.price())
            town.api.test_helpers.test_clocks.advance(town.clock, {"frozen_time": at("2026-03-01")})
            assert town.api.test_helpers.test_clocks.retrieve(town.clock).status == "advancing"
            local.process.kill()
            local.process.wait()
        local = start("--state", state)
        clocks = local.api.test_helpers.test_clocks
        await_(lambda: clocks.retrieve(town.clock).status == "ready", "the rest of the advance", 20)
        [newest, _] = local.api.invoices.list({"customer": ada.id}).data
        assert newest.billing_reason == "subscription_cycle"
    finally:
        local.process.terminate()
        local.process.wait(timeout=10)


def test_it_starts_quickly_and_stops_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    local = start("--state", str(tmp_path / "state.sqlite3"), "--fresh")
    started = time.monotonic()
    local.process.terminate()
    assert local.process.wait(timeout=5) == 0
    assert started - began < 3
    assert time.monotonic() - started < 1


def test_reset_forgets_everything() -> None:
    with sandbox() as local:
        local.api.products.create({"name": "Gone"})
        local.ask("POST", "/_sandbox/reset", {})
        assert local.read("/_sandbox/state") == {
            "advancing_clocks": 0,
            "objects": {},
            "pending_deliveries": 0,
        }


def test_what_was_expanded_once_is_read_afresh_the_next_time(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price())
    path = "parent.subscription_details.subscription"
    invoice = town.invoices(ada)[0].id
    town.api.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "void"}})
    before = town.api.invoices.retrieve(invoice, {"expand": [path]})
    assert before.parent.subscription_details.subscription.pause_collection.behavior == "void"

    town.api.subscriptions.update(subscription.id, {"pause_collection": ""})

    after = town.api.invoices.retrieve(invoice, {"expand": [path]})
    assert after.parent.subscription_details.subscription.pause_collection is None
    assert town.api.invoices.retrieve(invoice).parent.subscription_details.subscription == subscription.id


def test_a_default_card_that_is_changed_is_an_event_and_says_what_it_was(town: Town) -> None:
    ada = town.customer()
    old = ada.invoice_settings.default_payment_method
    new = town.api.payment_methods.attach("pm_card_mastercard", {"customer": ada.id}).id
    told = len(town.api.events.list({"type": "customer.updated"}).data)

    for _ in range(2):  # the second time nothing changes
        town.api.customers.update(ada.id, {"invoice_settings": {"default_payment_method": new}})

    events = town.api.events.list({"type": "customer.updated"}).data
    assert len(events) == told + 1
    assert events[0].data.previous_attributes.invoice_settings.default_payment_method == old
