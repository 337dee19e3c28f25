"""Tell the local Stripe where our web app listens, and learn the secret it signs with."""

import urllib.error

from cli.local.credentials import Credentials
from cli.local.http import post_form

_PATH = "/api/subscriptions/webhooks/stripe/"


def register(stripe_base: str, web_base: str, credentials: Credentials) -> str:
    """Create our webhook endpoint, or move the one of an earlier start to today's port; returns its secret.

    Stripe shows the secret only when the endpoint is made, so it is kept beside the endpoint's id.
    """
    fields = {"url": web_base + _PATH, "enabled_events[0]": "*"}
    collection = f"{stripe_base}/v1/webhook_endpoints"
    known, secret = credentials.get("webhook_endpoint_id"), credentials.get("webhook_endpoint_secret")
    if known and secret:
        try:
            post_form(f"{collection}/{known}", fields, credentials["stripe_api_key"])
        except urllib.error.HTTPError as refusal:
            if refusal.code != 404:  # 404: the local Stripe began anew
                raise
        else:
            return secret
    endpoint = post_form(collection, fields, credentials["stripe_api_key"])
    credentials.update(webhook_endpoint_id=endpoint["id"], webhook_endpoint_secret=endpoint["secret"])
    return str(endpoint["secret"])
