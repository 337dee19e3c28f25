"""Requests about the account itself: test clocks and the endpoint that Stripe calls us at."""

from collections.abc import Sequence

from gateway.requests.request import Request


def create_test_clock(frozen_at: int, name: str) -> Request:
    """A clock, in Unix seconds, for customers that are created on it; Stripe deletes it after 30 days."""
    return Request("create_test_clock", params={"frozen_time": frozen_at, "name": name[:300]})


def advance_test_clock(clock_id: str, frozen_at: int) -> Request:
    """Start moving a clock forward, at most two billing intervals; then fetch it until it is "ready"."""
    return Request("advance_test_clock", clock_id, {"frozen_time": frozen_at})


def delete_test_clock(clock_id: str) -> Request:
    """Remove a clock and everything on it."""
    return Request("delete_test_clock", clock_id)


def create_webhook_endpoint(url: str, events: Sequence[str], api_version: str) -> Request:
    """Have Stripe deliver `events` to `url` in `api_version` (an endpoint never changes its version).

    The reply alone carries the signing secret.
    """
    return Request(
        "create_webhook_endpoint",
        params={"url": url, "enabled_events": list(events), "api_version": api_version},
    )
