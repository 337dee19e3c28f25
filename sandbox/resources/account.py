"""`/v1/account` and `/v1/balance`: enough to test a connection."""

from .. import Doc
from ..routing import Call, api


@api.on("GET", "/v1/account")
def retrieve_account(call: Call) -> Doc:
    return {
        "id": "acct_sandbox0000000",
        "object": "account",
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "created": 1_735_689_600,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "sandbox@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


@api.on("GET", "/v1/balance")
def retrieve_balance(call: Call) -> Doc:
    received: dict[str, int] = {}
    for charge in call.world.tx.select("charge"):
        if charge["paid"]:
            kept = charge["amount"] - charge["amount_refunded"]
            received[charge["currency"]] = received.get(charge["currency"], 0) + kept
    funds = [
        {"amount": amount, "currency": name, "source_types": {"card": amount}}
        for name, amount in received.items()
    ]
    return {"object": "balance", "available": funds, "livemode": False, "pending": []}
