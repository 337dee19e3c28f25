"""Errors: stable codes, the field at fault, and they survive the way between processes."""

from __future__ import annotations

import pickle

import pytest

from billing import errors
from billing.errors import BillingError, Conflict, InvalidTerms, RefusedTransition


def test_codes_are_stable() -> None:
    codes = {
        child.__name__: child.code
        for child in BillingError.__subclasses__()
        if child.__module__ == errors.__name__
    }
    assert codes == {
        "CurrencyMismatch": "currency_mismatch",
        "RefusedTransition": "refused_transition",
        "InvalidUsage": "invalid_usage",
        "InvalidTerms": "invalid_terms",
        "NotFound": "not_found",
        "Conflict": "conflict",
    }


@pytest.mark.parametrize(
    "error",
    [
        InvalidTerms("must not be negative", field="unit_price"),
        Conflict("twice"),
        RefusedTransition("a", "b", "no"),
    ],
)
def test_an_error_survives_pickling(error: BillingError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert (str(copy), copy.field, copy.code) == (str(error), error.field, error.code)
