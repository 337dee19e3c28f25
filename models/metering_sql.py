"""SQL of the questions that `billing.metering` and `billing.groups` answer in Python: the same answers.

Each takes SQL expressions and gives one. Properties are jsonb objects of text, integers and booleans,
or NULL for none; filters and matches are jsonb as `billing.groups.match_record` writes them.
"""


def passes(properties: str, match: str) -> str:
    """`billing.metering.matches`: each named property has one of the listed values."""
    # What is missing becomes null here, and no list holds null.
    return (
        f"NOT EXISTS (SELECT FROM jsonb_each({match}) AS named(name, allowed) "
        f"WHERE NOT named.allowed @> jsonb_build_array({properties} -> named.name))"
    )


def group_number(properties: str, matches: str) -> str:
    """`GroupedTerms.number_of`: the first of a jsonb list of matches that takes it, from 1; else 0."""
    return (
        "coalesce((SELECT min(listed.number) "
        f"FROM jsonb_array_elements({matches}) WITH ORDINALITY AS listed(match, number) "
        f"WHERE {passes(properties, 'listed.match')}), 0)"
    )


def group_values(properties: str, group_by: str) -> str:
    """`billing.metering.group_key` as jsonb: the values of a list of names, null for what is missing."""
    return (
        f"(SELECT coalesce(jsonb_object_agg(grouped.name, {properties} -> grouped.name), '{{}}') "
        f"FROM jsonb_array_elements_text({group_by}) AS grouped(name))"
    )
