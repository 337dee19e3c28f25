"""Which currencies there are, and in which steps an amount of each can be charged."""

# ISO 4217, national currencies in use. Source: the list one of ISO 4217, without funds, metals and tests.
_LIST = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD
CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT
LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XCG
XOF XPF YER ZAR ZMW ZWG
"""
_CODES = frozenset(_LIST.split())
NO_MINOR_UNIT = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
# Sent with two decimals that must be zero, for the sake of old integrations.
_WHOLE_UNITS_ONLY = frozenset(("ISK", "UGX"))

# The least that a card is charged, in minor units, by an account that settles in the same currency.
# Source: docs.stripe.com/currencies (minimum and maximum charge amounts). The rupee of India and the
# real are not in it: half of one, a few cents, holds for accounts that settle in it alone.
_LEAST_CHARGE = {
    **dict.fromkeys(("AUD", "CAD", "CHF", "EUR", "JPY", "NZD", "SGD", "USD"), 50),
    "GBP": 30,
    "BGN": 100,
    "AED": 200,
    "MYR": 200,
    "PLN": 200,
    "RON": 200,
    "DKK": 250,
    "NOK": 300,
    "SEK": 300,
    "HKD": 400,
    "MXN": 1_000,
    "THB": 1_000,
    "CZK": 1_500,
    "HUF": 17_500,
}
# An account that settles in another currency is held to that one's minimum, converted: they are worth
# between 0.27 and 0.70 US dollars each, so none is three times another.
_SETTLED_ELSEWHERE = 3
_LEAST_UNKNOWN = 1_000


def is_currency(code: str) -> bool:
    """Whether this is the upper-case code of a currency of ISO 4217."""
    return code in _CODES


def charge_step(currency: str) -> int:
    """The minor units that every charged amount is a multiple of.

    10 for three decimals: the card networks know two, so Stripe takes amounts that end in 0. 100 for the
    króna and the shilling of Uganda; else 1. Source: docs.stripe.com/currencies.
    """
    if currency in THREE_DECIMALS:
        return 10
    return 100 if currency in _WHOLE_UNITS_ONLY else 1


def never_too_little(currency: str) -> int:
    """An amount, in minor units, that Stripe charges by card, whatever the account settles in.

    Below it an amount may be too little and be carried over. For a currency whose minimum is not known
    the bound is low: rather a carried debt is held up for a person than a lost charge is not.
    """
    least = _LEAST_CHARGE.get(currency)
    return _LEAST_UNKNOWN if least is None else least * _SETTLED_ELSEWHERE


def is_too_little(minor: int, currency: str) -> bool:
    """Whether Stripe refuses to charge this amount by card, as far as the currency's minimum is known."""
    return 0 < minor < _LEAST_CHARGE.get(currency, 1)
