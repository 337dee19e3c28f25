"""Short calls to our own processes over loopback."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

# An http_proxy in the environment is for the world outside, not for 127.0.0.1.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def probe(url: str, timeout_s: float = 2.0) -> str | None:
    """None when the address answers 2xx, else what it answers instead."""
    try:
        with _DIRECT.open(url, timeout=timeout_s):
            return None
    except urllib.error.HTTPError as refusal:
        return f"HTTP {refusal.code}: {refusal.read(2000).decode(errors='replace')}"
    except (OSError, ValueError) as failure:  # http.client raises ValueErrors for half an answer
        return str(failure)


def post_form(url: str, fields: Mapping[str, str], bearer: str) -> dict[str, Any]:
    """POST a form and decode the JSON answer. Raises urllib.error.HTTPError, OSError."""
    request = urllib.request.Request(  # noqa: S310 - the address is our own process's
        url,
        data=urllib.parse.urlencode(fields).encode(),
        headers={"Authorization": f"Bearer {bearer}"},
        method="POST",
    )
    with _DIRECT.open(request, timeout=10) as answer:
        reply: dict[str, Any] = json.load(answer)
    return reply


def post_json(url: str, body: bytes, headers: Mapping[str, str]) -> str | None:
    """None when the address takes the body with a 2xx, else what it answers instead."""
    sent = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data=body, headers=sent, method="POST")  # noqa: S310 - asked for
    try:
        with _DIRECT.open(request, timeout=10):
            return None
    except urllib.error.HTTPError as refusal:
        return f"HTTP {refusal.code}: {refusal.read(2000).decode(errors='replace')}"
    except (OSError, ValueError) as failure:
        return str(failure)
