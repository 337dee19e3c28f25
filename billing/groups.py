"""Prices per group: which events of a meter one price is for, and what each group's own terms are.

A `Match` names properties and, for each, the values that it takes: `{"region": ("eu", "uk")}`. Meters
filter by one, and a price is split into groups by several.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from billing.errors import InvalidTerms
from billing.metering import MAX_PROPERTY_KEY, MAX_PROPERTY_TEXT, matches
from billing.terms import ChargeTerms

Value = str | int | bool
Match = Mapping[str, tuple[Value, ...]]

# The number of the group that takes what no other does; the others count from 1.
REST: Final = 0
MAX_GROUPS = 50
MAX_VALUES = 100

_INTEGER_BOUND = 2**63


@dataclass(frozen=True, slots=True)
class Group:
    """Some of a meter's events, with terms of their own: allowance, tiers and minimum are theirs alone."""

    match: Match
    terms: ChargeTerms

    @property
    def name(self) -> str:
        """What tells the group apart for a reader: `model large or xl, region eu`."""
        return ", ".join(
            f"{name} {' or '.join(map(_shown, values))}" for name, values in sorted(self.match.items())
        )


@dataclass(frozen=True, slots=True)
class GroupedTerms:
    """What one meter costs in a plan and a currency: the terms of each group, and of all the rest.

    An event belongs to the first group that it matches; `rest` takes what matches none, so every event
    has terms. Raises: InvalidTerms, naming the field.
    """

    rest: ChargeTerms
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        if len(self.groups) > MAX_GROUPS:
            raise InvalidTerms(f"are at most {MAX_GROUPS}", field="groups")
        for index, group in enumerate(self.groups):
            if group.terms.currency != self.rest.currency:
                raise InvalidTerms("has another currency", field=f"groups.{index}.currency")
            if any(_covers(earlier.match, group.match) for earlier in self.groups[:index]):
                raise InvalidTerms(
                    "is never reached: a group before it takes all of it", field=f"groups.{index}.match"
                )

    @property
    def numbers(self) -> tuple[int, ...]:
        """The groups' numbers in the sequence of their lines; the rest comes last."""
        return (*range(1, len(self.groups) + 1), REST)

    @property
    def matches(self) -> list[dict[str, list[Value]]]:
        """What each group takes, JSON-safe, in sequence."""
        return [match_record(group.match) for group in self.groups]

    @property
    def names(self) -> frozenset[str]:
        """The properties that tell the groups apart."""
        return frozenset(name for group in self.groups for name in group.match)

    def number_of(self, properties: Mapping[str, object]) -> int:
        """The group of an event with these properties."""
        found = (n for n, group in enumerate(self.groups, start=1) if matches(properties, group.match))
        return next(found, REST)

    def terms_of(self, number: int) -> ChargeTerms:
        return self.rest if number == REST else self.groups[number - 1].terms

    def match_of(self, number: int) -> dict[str, list[Value]] | None:
        """What the group takes, JSON-safe; None of the rest."""
        return None if number == REST else self.matches[number - 1]

    def name_of(self, number: int) -> str:
        """The group's name for a reader; "" where there is nothing to tell apart."""
        if number != REST:
            return self.groups[number - 1].name
        return f"any other {' and '.join(sorted(self.names))}" if self.groups else ""

    def each(self, change: Callable[[ChargeTerms], ChargeTerms]) -> GroupedTerms:
        """The same groups, each with its terms changed."""
        groups = tuple(Group(group.match, change(group.terms)) for group in self.groups)
        return GroupedTerms(change(self.rest), groups)

    def to_record(self) -> dict[str, object]:
        """JSON-safe: the record of the rest's terms, and beside it the groups with their own."""
        groups = [{"match": match_record(group.match), **group.terms.to_record()} for group in self.groups]
        return {**self.rest.to_record(), **({"groups": groups} if groups else {})}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> GroupedTerms:
        """Read what `to_record` wrote; a group without a currency has that of the rest.

        Raises: InvalidTerms, naming the part: `groups.0.unit_price`.
        """
        rest = ChargeTerms.from_record({name: value for name, value in record.items() if name != "groups"})
        raw = record.get("groups", ())
        if not isinstance(raw, list | tuple):
            raise InvalidTerms("must be a list of groups", field="groups")
        return cls(rest, tuple(_group(each, rest.currency, index) for index, each in enumerate(raw)))


def read_match(record: object, *, field: str) -> Match:
    """Read a match: property -> a value or a list of them. Raises: InvalidTerms, naming the property."""
    if not isinstance(record, Mapping):
        raise InvalidTerms("must be a table of properties and their values", field=field)
    match = {}
    for name, value in record.items():
        here = f"{field}.{name}"
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_PROPERTY_KEY or "\0" in name:
            raise InvalidTerms(f"names have 1 to {MAX_PROPERTY_KEY} characters", field=field)
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not 1 <= len(values) <= MAX_VALUES:
            raise InvalidTerms(f"needs 1 to {MAX_VALUES} values", field=here)
        if not all(map(_is_value, values)):
            raise InvalidTerms("a value is text, an integer, true or false", field=here)
        # Each once, in one sequence: equal matches have equal records.
        distinct = {(type(each).__name__, each): each for each in values}
        match[name] = tuple(distinct[key] for key in sorted(distinct))
    return match


def match_record(match: Match) -> dict[str, list[Value]]:
    """JSON-safe, properties in one sequence."""
    return {name: list(match[name]) for name in sorted(match)}


def check_names(names: Collection[str], group_by: Collection[str], *, field: str) -> None:
    """Refuse groups by what the meter does not group by. Raises: InvalidTerms."""
    for name in sorted(set(names) - set(group_by)):
        raise InvalidTerms(f"the meter does not group by {name}", field=field)


def _group(record: object, currency: str, index: int) -> Group:
    here = f"groups.{index}"
    if not isinstance(record, Mapping):
        raise InvalidTerms("must be a table with a match and terms", field=here)
    match = read_match(record.get("match"), field=f"{here}.match")
    if not match:
        raise InvalidTerms("names no property", field=f"{here}.match")
    own = {name: value for name, value in record.items() if name != "match"}
    try:
        return Group(match, ChargeTerms.from_record({"currency": currency, **own}))
    except InvalidTerms as error:
        raise InvalidTerms(str(error), field=f"{here}.{error.field}") from error


def _covers(earlier: Match, later: Match) -> bool:
    """Whether everything that `later` takes is taken by `earlier` already."""
    return all(
        name in later and all(_among(value, values) for value in later[name])
        for name, values in earlier.items()
    )


def _among(value: Value, values: tuple[Value, ...]) -> bool:
    return any(type(value) is type(each) and value == each for each in values)


def _is_value(value: object) -> bool:
    if isinstance(value, int):
        return -_INTEGER_BOUND <= value < _INTEGER_BOUND
    return isinstance(value, str) and len(value) <= MAX_PROPERTY_TEXT and "\0" not in value


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
