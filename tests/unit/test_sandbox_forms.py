"""Stripe's form bodies, nested three deep, and what is refused in them."""

from decimal import Decimal
from typing import Any

import pytest

from sandbox.errors import ApiError
from sandbox.forms import BOOL, DECIMAL, HASH, INT, STR, Shape, check, parse_body


@pytest.mark.parametrize(
    ("body", "nested"),
    [
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a[b][c]=1", {"a": {"b": {"c": "1"}}}),
        ("items[0][price]=p&items[1][price]=q", {"items": [{"price": "p"}, {"price": "q"}]}),
        ("items[10]=k&items[9]=j", {"items": ["j", "k"]}),
        ("expand[]=a&expand[]=b", {"expand": ["a", "b"]}),
        ("a%5Bb%5D=caf%C3%A9+au+lait", {"a": {"b": "café au lait"}}),
        (
            "items[0][price_data][recurring][interval]=month",
            {"items": [{"price_data": {"recurring": {"interval": "month"}}}]},
        ),
    ],
)
def test_names_nest(body: str, nested: dict[str, Any]) -> None:
    assert parse_body(body) == nested


@pytest.mark.parametrize("body", ["a=1&a[b]=2", "a[b]=2&a=1"])
def test_a_name_is_a_value_or_a_container(body: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_body(body)
    assert refused.value.status == 400


SHAPE: dict[str, Shape] = {
    "name": STR,
    "count": INT,
    "on": BOOL,
    "price": DECIMAL,
    "metadata": HASH,
    "items": [{"quantity": INT}],
}


def test_scalars_get_their_types_and_an_empty_string_stays() -> None:
    given = parse_body("name=7&count=-3&on=true&price=0.000000125&metadata[a]=1&items[0][quantity]=2")
    assert check(given, SHAPE) == {
        "name": "7",
        "count": -3,
        "on": True,
        "price": Decimal("0.000000125"),
        "metadata": {"a": "1"},
        "items": [{"quantity": 2}],
    }
    assert check(parse_body("count=&metadata=&items="), SHAPE) == {"count": "", "metadata": "", "items": ""}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ("colour=red", "colour", "parameter_unknown"),
        ("items[1][size]=2", "items[0][size]", "parameter_unknown"),
        ("count=1.0", "count", "parameter_invalid_integer"),
        ("count=1e3", "count", "parameter_invalid_integer"),
        ("on=yes", "on", None),
        ("price=1.25E-7", "price", None),
        ("price=1.0000000000001", "price", None),
        ("items=x", "items", None),
        (f"metadata[a]={'x' * 501}", "metadata[a]", None),
        (f"metadata[{'k' * 41}]=x", "metadata", None),
    ],
)
def test_what_is_refused_is_named(body: str, param: str, code: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        check(parse_body(body), SHAPE)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)
    assert not refused.value.saved
