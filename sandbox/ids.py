"""Object ids with Stripe's prefixes."""

import secrets

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

PREFIXES = {
    "customer": "cus",
    "product": "prod",
    "price": "price",
    "coupon": "",
    "discount": "di",
    "tax_rate": "txr",
    "payment_method": "pm",
    "setup_intent": "seti",
    "setup_attempt": "setatt",
    "payment_intent": "pi",
    "charge": "ch",
    "refund": "re",
    "dispute": "du",
    "subscription": "sub",
    "subscription_item": "si",
    "invoice": "in",
    "line_item": "il",
    "invoiceitem": "ii",
    "invoice_payment": "inpay",
    "credit_note": "cn",
    "credit_note_line_item": "cnli",
    "customer_balance_transaction": "cbtxn",
    "event": "evt",
    "webhook_endpoint": "we",
    "test_helpers.test_clock": "clock",
    "checkout.session": "cs_test",
    "billing_portal.session": "bps",
}


def random_token(length: int) -> str:
    """A random string of letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_id(kind: str) -> str:
    """A fresh id for an object of `kind`, such as `cus_...` for a customer."""
    prefix = PREFIXES[kind]
    return f"{prefix}_{random_token(24)}" if prefix else random_token(8)
