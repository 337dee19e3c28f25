"""What the sandbox keeps: transactions, idempotency keys, timers, faults."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sandbox import Doc, idempotency
from sandbox.errors import ApiError
from sandbox.faults import Faults
from sandbox.idempotency import InFlight, SavedReply, fingerprint
from sandbox.store import ClockBusy, Store


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store(":memory:")) as memory:
        yield memory


def coupon(name: str, **more: object) -> Doc:
    return {"id": name, "object": "coupon", **more}


def test_what_a_refused_request_did_is_undone(store: Store) -> None:
    with store.transaction() as tx:
        tx.add(coupon("kept", uses=0))

    def refused() -> None:
        with store.transaction() as tx:
            tx.get("coupon", "kept")["uses"] = 9
            tx.add(coupon("dropped"))
            tx.get("coupon", "unknown")

    with pytest.raises(ApiError):
        refused()
    with store.transaction() as tx:
        assert tx.get("coupon", "kept") == coupon("kept", uses=0)
        assert tx.find("dropped") is None


def test_a_change_is_seen_by_the_next_question_in_the_same_transaction(store: Store) -> None:
    with store.transaction() as tx:
        entry = tx.add({"id": "ii_1", "object": "invoiceitem", "customer": "cus_1", "invoice": None})
        assert tx.select("invoiceitem", customer="cus_1", invoice=None) == [entry]
        entry["invoice"] = "in_1"
        assert tx.select("invoiceitem", customer="cus_1", invoice=None) == []
        assert tx.select("invoiceitem", invoice="in_1") == [entry]


def test_documents_survive_on_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "state.sqlite3")
    # The first stays open, as it would in a process that was killed.
    with closing(Store(path)) as first:
        with first.transaction() as tx:
            tx.add(coupon("old"))
        with closing(Store(path)) as second, second.transaction() as tx:
            assert [doc["id"] for doc in tx.select("coupon")] == ["old"]
    with closing(Store(path, fresh=True)) as third, third.transaction() as tx:
        assert tx.select("coupon") == []


def test_timers_ring_in_order_of_time_then_of_setting_each_once(store: Store) -> None:
    with store.transaction() as tx:
        for due, target in ((30, "c"), (10, "a"), (20, "b1"), (20, "b2"), (99, "later")):
            tx.set_timer(due, "clock_1", "ring", target)
        tx.set_timer(5, None, "ring", "wall")
        rung = []
        while (timer := tx.take_timer("clock_1", 40)) is not None:
            rung.append(timer[2])
        assert rung == ["a", "b1", "b2", "c"]
        assert tx.take_timer(None, 40) == (5, "ring", "wall")


def test_nobody_writes_under_an_advancing_clock_but_its_own_thread(store: Store) -> None:
    clock = {"id": "clock_1", "object": "test_helpers.test_clock", "status": "advancing"}
    with store.transaction() as tx:
        tx.add(clock)
    with store.transaction(advancing="clock_1") as tx:
        tx.add({"id": "cus_1", "object": "customer", "test_clock": "clock_1", "balance": 0})
    with pytest.raises(ClockBusy), store.transaction() as tx:
        tx.get("customer", "cus_1")["balance"] = 5
    with store.transaction() as tx:
        assert tx.get("customer", "cus_1")["balance"] == 0
    assert not store.wait_for_clock("clock_1", 0.01)


def test_a_key_answers_for_its_own_request_only(store: Store) -> None:
    mark = fingerprint("POST", "/v1/customers", {"name": "Ada"})
    other = fingerprint("POST", "/v1/customers", {"name": "Bob"})
    reply = SavedReply(402, '{"error": {}}', "req_1")
    with store.transaction() as tx:
        assert idempotency.find(tx, "k", mark) is None
        idempotency.save(tx, "k", mark, reply, 0)
        assert idempotency.find(tx, "k", mark) == reply
        with pytest.raises(ApiError) as reused:
            idempotency.find(tx, "k", other)
    assert (reused.value.status, reused.value.type) == (400, "idempotency_error")


def test_a_key_is_held_while_its_request_runs() -> None:
    flights = InFlight()
    with flights.claim("k"):
        with pytest.raises(ApiError) as twin, flights.claim("k"):
            pass
        with flights.claim("other"), flights.claim(None), flights.claim(None):
            pass
    assert twin.value.status == 409
    with flights.claim("k"):
        pass
    with pytest.raises(ApiError), flights.claim("x" * 256):
        pass


def test_the_order_of_parameters_makes_no_other_request() -> None:
    assert fingerprint("POST", "/p", {"a": 1, "b": 2}) == fingerprint("POST", "/p", {"b": 2, "a": 1})
    assert fingerprint("POST", "/p", {"a": 1}) != fingerprint("POST", "/q", {"a": 1})


def test_exact_faults_wait_for_their_operation() -> None:
    faults = Faults()
    faults.set({"once": [{"operation": "POST /v1/customers", "fault": "http_429", "times": 2}]})
    seen = [faults.for_request(name) for name in ("GET /v1/customers", *["POST /v1/customers"] * 3)]
    assert seen == [None, "http_429", "http_429", None]
    faults.set({"once": [{"event": "invoice.paid", "fault": "webhook_drop"}]})
    assert faults.for_request("POST /v1/customers") is None
    assert [faults.for_event(name) for name in ("invoice.created", "invoice.paid", "invoice.paid")] == [
        None,
        "webhook_drop",
        None,
    ]


def test_chance_spares_who_only_looks_on() -> None:
    faults = Faults()
    faults.set({"http_429": 1, "spared": "sk_test_a_person"})
    assert faults.for_request("GET /v1/account", "sk_test_a_person") is None
    assert faults.for_request("GET /v1/account", "sk_test_of_ours") == "http_429"
    faults.set({"once": [{"fault": "http_500_before"}]})  # ordered, not by chance
    assert faults.for_request("GET /v1/account", "sk_test_a_person") == "http_500_before"
    faults.clear()
    assert faults.for_request("GET /v1/account", "sk_test_of_ours") is None


def test_chance_repeats_itself_and_can_be_cleared() -> None:
    def drawn() -> list[str | None]:
        faults = Faults()
        faults.set({"http_429": 0.5, "seed": 3})
        return [faults.for_request("GET /v1/account") for _ in range(40)]

    assert drawn() == drawn()
    assert set(drawn()) == {None, "http_429"}
    faults = Faults()
    faults.set({"http_500_before": 1})
    faults.clear()
    assert faults.for_request("GET /v1/account") is None
    with pytest.raises(ApiError):
        faults.set({"gremlins": 1})
