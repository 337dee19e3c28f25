"""What usage events say once corrections are heard: the one definition that every reader shares.

A record stays as it came; of its corrections the newest that counts replaces its quantity, or says
that it never happened. Which corrections count depends on the question: for the quantity of today all
of them, for an invoice line only those that it, or a line that it adjusts, has taken.
"""

# For the quantity of today.
ALL = "true"
# For rating: what no line has taken yet is not heard.
TAKEN = "k.invoice_line_id IS NOT NULL"
# For a line as it was rated: what came after it is not heard.
TAKEN_BY = "k.invoice_line_id = ANY(CAST(:line_ids AS uuid[]))"

# Of a correction `k`: its record `r`, found by key whatever the planner believes of the table.
RECORD = """
    CROSS JOIN LATERAL (
        SELECT * FROM tenant.usage_records r
        WHERE r.organization_id = k.organization_id AND r.product_id = k.product_id
          AND r.event_id = k.event_id
        LIMIT 1
    ) r
"""

# One look by key for each record (the fence keeps other indexes out of it), and none at all where nothing
# was corrected. As a plain join it read every correction once for each record, since what a line has just
# taken is in no statistics yet.


def corrected(records: str, counting: str, corrections: str = "true") -> str:
    """A relation: the records `r` that the condition `records` selects, each as corrected.

    `quantity` is what counts and `original_quantity` what the event said; a `void` record is no fact, so
    every reader says `WHERE NOT void`. Args: `counting`, one of the above; `corrections`, a condition on
    the corrections `k` that holds for all of those records and spares reading the others. All three are
    constants of this package, never what a person typed.
    """
    return f"""
    SELECT r.organization_id, r.product_id, r.event_id, r.subscription_id, r.item_id, r.meter_id,
           r.occurred_at, r.properties, r.batch_id, r.state, r.invoice_line_id,
           coalesce(c.quantity, r.quantity) AS quantity, r.quantity AS original_quantity,
           c.kind IS NOT DISTINCT FROM 'void' AS void
    FROM tenant.usage_records r
    LEFT JOIN LATERAL (
        SELECT k.kind, k.quantity
        FROM (
            SELECT * FROM tenant.usage_corrections k
            WHERE k.organization_id = r.organization_id AND k.product_id = r.product_id
              AND k.event_id = r.event_id
            OFFSET 0
        ) k
        WHERE ({counting})
          AND (SELECT EXISTS (SELECT FROM tenant.usage_corrections k WHERE ({corrections}) AND ({counting})))
        ORDER BY k.number DESC LIMIT 1
    ) c ON true
    WHERE {records}
    """
