"""A catalog file is read whole, or refused with the place that is wrong."""

import pytest

from billing.errors import InvalidTerms
from tasks.catalog_file import parse

GOOD = """
[interval_factors]
month = "1"
quarter = "2.85"

[[tiers]]
code = "pro"
name = "Professional"
rank = 1

[[products]]
code = "flow"
name = "Flow"
billing_type = "hybrid"

[[products.meters]]
code = "runs"
name = "Runs"
unit = "run"
aggregation = "sum"

[products.plans.pro]
prices = { USD = 3500, KWD = { month = 12500, year = 125000 } }
features = ["webhooks"]
limits = { workflows = 20 }

[products.plans.pro.charges.runs]
USD = { model = "per_unit", unit_price = "2" }
KWD = { model = "per_unit", unit_price = "6.1" }

[[bundles]]
code = "all"
name = "All"
prices = { USD = 3000 }
members = [{ plan = "flow-pro", quantity = 2 }]
"""


def test_one_amount_is_the_price_of_a_month_and_the_factors_make_the_others() -> None:
    catalog = parse(GOOD)

    assert catalog.plans["flow-pro"].prices == {
        ("USD", "month"): 3500,
        ("USD", "quarter"): 9975,
        ("KWD", "month"): 12500,
        ("KWD", "year"): 125000,
    }
    assert catalog.plans["flow-pro"].name == "Professional"
    assert catalog.bundles["all"].members == (("flow-pro", 2),)


def test_a_derived_price_can_be_charged() -> None:
    catalog = parse(GOOD.replace("{ month = 12500, year = 125000 }", "12510"))

    # 12.510 x 2.85 = 35.6535 dinars
    assert catalog.plans["flow-pro"].prices["KWD", "quarter"] == 35_650


@pytest.mark.parametrize(
    ("old", "new", "place", "why"),
    [
        ('aggregation = "sum"', 'aggregation = "total"', "products.flow.meters[0].aggregation", "total"),
        ("USD = 3500", "USD = 35.0", "products.flow.plans.pro.prices.USD", "minor units"),
        ("USD = 3500", "USD = -1", "products.flow.plans.pro.prices.USD", "minor units"),
        ("USD = 3500", "DOL = 3500", "products.flow.plans.pro.prices.DOL", "ISO 4217"),
        ("month = 12500", "month = 12505", "products.flow.plans.pro.prices.KWD.month", "steps of 10"),
        ("month = 12500", "week = 12500", "products.flow.plans.pro.prices.KWD.week", "month, quarter"),
        ('["webhooks"]', '["Web hooks"]', "products.flow.plans.pro.features[0]", "match"),
        ('["webhooks"]', '["webhooks", "webhooks"]', "products.flow.plans.pro.features", "twice"),
        ("workflows = 20", 'workflows = "20"', "products.flow.plans.pro.limits.workflows", "int"),
        ("workflows = 20", "workflows = -1", "products.flow.plans.pro.limits.workflows", ">= 0"),
        ("workflows = 20", '"Work flows" = 1', "products.flow.plans.pro.limits.Work flows", "match"),
        ('unit_price = "2"', "unit_price = 0.02",
         "products.flow.plans.pro.charges.runs.USD.unit_price", "text"),
        ('model = "per_unit", unit_price = "6.1"', 'model = "each"',
         "products.flow.plans.pro.charges.runs.KWD.model", "per_unit"),
        ('KWD = { model = "per_unit", unit_price = "6.1" }', "",
         "products.flow.plans.pro.charges.runs.KWD", "together"),
        ("charges.runs]", "charges.walks]", "products.flow.plans.pro.charges.walks", "meters"),
        ("plans.pro", "plans.max", "products.flow.plans.max", "tiers"),
        ("quantity = 2", "quantity = 0", "bundles.all.members[0].quantity", ">= 1"),
        ('name = "Flow"', 'nom = "Flow"', "products.flow", "nom"),
        ("rank = 1", "rank = 1\ncolour = 2", "tiers[0]", "colour"),
        ('code = "all"', 'code = "All"', "bundles.All.code", "match"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(old: str, new: str, place: str, why: str) -> None:
    assert old in GOOD

    with pytest.raises(InvalidTerms, match=why) as refused:
        parse(GOOD.replace(old, new))

    assert refused.value.field == place


def test_a_file_that_is_not_toml_names_its_line() -> None:
    with pytest.raises(InvalidTerms, match="line 2"):
        parse("[tiers]\ncode = \n")


def test_a_code_stands_there_once() -> None:
    with pytest.raises(InvalidTerms) as refused:
        parse(
            GOOD + '\n[[bundles]]\ncode = "all"\nname = "All"\nprices = { USD = 1 }\nmembers = ["flow-pro"]\n'
        )

    assert refused.value.field == "bundles.all"


GROUPED = GOOD.replace('aggregation = "sum"', 'aggregation = "sum"\ngroup_by = ["region"]').replace(
    'KWD = { model = "per_unit", unit_price = "6.1" }',
    """
[products.plans.pro.charges.runs.KWD]
model = "per_unit"
unit_price = "6.1"
[[products.plans.pro.charges.runs.KWD.groups]]
match = { region = ["uk", "eu"] }
model = "package"
package_size = "10"
unit_price = "50"
""",
)


def test_a_price_may_have_groups_by_what_its_meter_groups_by() -> None:
    terms = parse(GROUPED).plans["flow-pro"].charges["runs", "KWD"]

    assert [(group.name, group.terms.model, group.terms.currency) for group in terms.groups] == [
        ("region eu or uk", "package", "KWD")
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (('group_by = ["region"]', ""), "products.flow.plans.pro.charges.runs.KWD.groups"),
        (('["region"]', '["region", "region"]'), "products.flow.meters.runs.group_by"),
        (('package_size = "10"', ""), "products.flow.plans.pro.charges.runs.KWD.groups.0.package_size"),
        (("match = ", "matches = "), "products.flow.plans.pro.charges.runs.KWD.groups.0.match"),
        (('["region"]', '["region"]\nfilters = { status = [] }'), "products.flow.meters.runs.filters.status"),
    ],
)
def test_groups_and_filters_are_refused_by_their_place(change: tuple[str, str], field: str) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        parse(GROUPED.replace(*change))
    assert refusal.value.field == field
