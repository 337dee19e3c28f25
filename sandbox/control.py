"""`/_sandbox`: the switches that Stripe does not have, for tests and demonstrations."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from .dispatch import Dispatcher
from .errors import ApiError, invalid, lock_timeout
from .ids import random_token
from .resources import payment_intents, setup_intents
from .store import ClockBusy
from .world import World


def blueprint(dispatcher: Dispatcher) -> Blueprint:
    """The control endpoints on one sandbox."""
    control = Blueprint("control", __name__, url_prefix="/_sandbox")
    _readings(control, dispatcher)
    _fault_switches(control, dispatcher)
    _actions(control, dispatcher)

    @control.errorhandler(ApiError)
    def refused(error: ApiError) -> tuple[Response, int]:
        return jsonify(error.body("req_sandbox")), error.status

    @control.errorhandler(ClockBusy)
    def busy(_error: ClockBusy) -> tuple[Response, int]:
        return refused(lock_timeout())

    return control


def _readings(control: Blueprint, dispatcher: Dispatcher) -> None:
    store = dispatcher.store

    @control.get("/ready")
    def ready() -> Response:
        return jsonify(ready=True)

    @control.get("/state")
    def state() -> Response:
        with store.transaction_quietly() as tx:
            kinds = tx.execute("SELECT kind, count(*) FROM objects GROUP BY kind ORDER BY kind")
            [(pending,)] = tx.execute("SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending')")
            [(advancing,)] = tx.execute(
                "SELECT count(*) FROM objects WHERE kind = 'test_helpers.test_clock' "
                "AND json_extract(doc, '$.status') = 'advancing'"
            )
        return jsonify(
            pending_deliveries=pending,
            advancing_clocks=advancing,
            objects={str(kind): count for kind, count in kinds},
        )

    @control.get("/calls")
    def calls() -> Response:
        return jsonify(calls=dispatcher.calls.shown())

    @control.get("/deliveries")
    def deliveries() -> Response:
        with store.transaction_quietly() as tx:
            rows = tx.execute(
                "SELECT event, endpoint, state, attempts, last_status FROM deliveries "
                "WHERE ? IS NULL OR event = ? ORDER BY seq DESC LIMIT 500",
                (request.args.get("event"), request.args.get("event")),
            )
        names = ("event", "endpoint", "state", "attempts", "last_status")
        return jsonify(deliveries=[dict(zip(names, row, strict=True)) for row in rows])


def _fault_switches(control: Blueprint, dispatcher: Dispatcher) -> None:
    store, faults = dispatcher.store, dispatcher.faults

    @control.post("/reset")
    def reset() -> Response:
        faults.clear()
        store.reset()
        return jsonify(reset=True)

    @control.get("/faults")
    def read_faults() -> Response:
        return jsonify(faults.shown())

    @control.post("/faults")
    def set_faults() -> Response:
        faults.set(request.get_json(force=True))
        return jsonify(faults.shown())

    @control.delete("/faults")
    def clear_faults() -> Response:
        faults.clear()
        return jsonify(faults.shown())


def _actions(control: Blueprint, dispatcher: Dispatcher) -> None:
    store = dispatcher.store

    @control.post("/cards/<method_id>")
    def change_card(method_id: str) -> Response:
        """The bank changes its mind: `{"decline": "lost_card"}`, or null to approve again."""
        with store.transaction() as tx:
            method = tx.get("payment_method", method_id)
            method["_decline"] = (request.get_json(force=True) or {}).get("decline")
            return jsonify(payment_method=method["id"], decline=method["_decline"])

    @control.post("/authenticate/<intent_id>")
    def authenticate(intent_id: str) -> Response:
        """The customer finishes 3-D Secure: `{"success": true}`."""
        success = bool((request.get_json(force=True, silent=True) or {}).get("success", True))
        with store.transaction() as tx:
            return jsonify(finish_authentication(dispatcher.world(tx), intent_id, success=success))

    @control.post("/webhook_endpoints/<endpoint_id>/roll_secret")
    def roll_secret(endpoint_id: str) -> Response:
        """A new secret; deliveries carry a signature by each of the two from now on."""
        with store.transaction() as tx:
            endpoint = tx.get("webhook_endpoint", endpoint_id)
            endpoint["_old_secret"] = endpoint["_secret"]
            endpoint["_secret"] = f"whsec_{random_token(32)}"
            return jsonify(secret=endpoint["_secret"])

    @control.post("/events/<event_id>/resend")
    def resend(event_id: str) -> Response:
        """Send an event again to every endpoint, as from the dashboard."""
        with store.transaction() as tx:
            tx.get("event", event_id)
            for endpoint in tx.select("webhook_endpoint"):
                tx.execute(
                    "INSERT INTO deliveries (event, endpoint, next_at) VALUES (?, ?, 0)",
                    (event_id, endpoint["id"]),
                )
        return jsonify(event=event_id)


def finish_authentication(world: World, intent_id: str, *, success: bool) -> dict[str, Any]:
    """End 3-D Secure for a payment or a setup intent; a refusal afterwards is in the intent, not raised."""
    intent = world.tx.find(intent_id)
    if intent is None or intent["object"] not in {"payment_intent", "setup_intent"}:
        raise invalid(f"No such intent: {intent_id}", code="resource_missing")
    if intent["object"] == "payment_intent":
        payment_intents.finish_authentication(world, intent, success=success)
    else:
        _finish_setup(world, intent, success=success)
    return {"id": intent["id"], "status": intent["status"]}


def _finish_setup(world: World, intent: dict[str, Any], *, success: bool) -> None:
    if intent["status"] != "requires_action":
        raise invalid(f"There is nothing to authenticate: the intent has the status {intent['status']}.")
    method = world.tx.get("payment_method", intent["payment_method"])
    if success:
        setup_intents.complete(world, intent, method)
    else:
        setup_intents.fail(world, intent, method, "authentication_required")
