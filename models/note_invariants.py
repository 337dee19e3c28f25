"""What the invariants say of credit notes: parts of I2, I6 and I8, as SQL; no row is good news."""

# I2: a note's lines come to the note, and notes take no more of an invoice line than it came to.
SUMS = """
    SELECT n.organization_id, n.id::text,
           format('credit note %s: lines come to %s - %s + %s = %s, the note says %s - %s + %s = %s %s',
                  coalesce(n.number, '(pending)'), l.amount, l.discount, l.tax, l.total, n.subtotal_minor,
                  n.discount_minor, n.tax_minor, n.amount_minor, n.currency)
    FROM tenant.credit_notes n
    CROSS JOIN LATERAL (
        SELECT count(*) AS lines, coalesce(sum(amount_minor), 0) AS amount,
               coalesce(sum(discount_minor), 0) AS discount, coalesce(sum(tax_minor), 0) AS tax,
               coalesce(sum(total_minor), 0) AS total,
               coalesce(bool_or(currency <> n.currency), false) AS foreign_currency
        FROM tenant.credit_note_lines l
        WHERE l.organization_id = n.organization_id AND l.credit_note_id = n.id
    ) l
    -- A note that a person made at Stripe may fit no line of ours, and then stands for itself.
    WHERE (l.lines > 0 OR n.key NOT LIKE 'stripe:%')
      AND (l.amount <> n.subtotal_minor OR l.discount <> n.discount_minor OR l.tax <> n.tax_minor
           OR l.total <> n.amount_minor OR l.foreign_currency)
    UNION ALL
    SELECT l.organization_id, l.id::text,
           format('notes credit %s of a line of invoice %s that came to %s', c.total, i.number, c.charged)
    FROM tenant.invoice_lines l
    JOIN tenant.invoices i ON i.organization_id = l.organization_id AND i.id = l.invoice_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(t.total_minor), 0) AS total,
               l.amount_minor - l.discount_minor
               + CASE WHEN i.tax_inclusive THEN 0 ELSE l.tax_minor END AS charged
        FROM tenant.credit_note_lines t
        JOIN tenant.credit_notes n ON n.organization_id = t.organization_id AND n.id = t.credit_note_id
        WHERE t.organization_id = l.organization_id AND t.invoice_line_id = l.id
          AND n.state IN ('pending', 'issued')
    ) c
    WHERE c.total <> 0 AND (abs(c.total) > abs(c.charged) OR sign(c.total) <> sign(c.charged))
"""

# I6: notes take no more than the invoice came to, the invoice says what they took off before payment, and
# no more is refunded than came in.
TOTALS = """
    SELECT i.organization_id, i.id::text,
           format('invoice %s of %s: notes of %s, of which %s before payment (the invoice says %s) and %s '
                  'refunded of %s', i.number, i.total_minor + i.credit_minor, n.credited, n.reduced,
                  i.reduced_minor, n.refunded, n.received)
    FROM tenant.invoices i
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(n.amount_minor), 0) AS credited,
               coalesce(sum(n.reduces_due_minor) FILTER (WHERE n.state = 'issued'), 0) AS reduced,
               coalesce(sum(n.refund_minor), 0) AS refunded,
               (SELECT coalesce(sum(p.amount_minor), 0) FROM tenant.payments p
                WHERE p.organization_id = i.organization_id AND p.invoice_id = i.id
                  AND p.status IN ('succeeded', 'refunded')) AS received
        FROM tenant.credit_notes n
        WHERE n.organization_id = i.organization_id AND n.invoice_id = i.id
          AND n.state IN ('pending', 'issued')
    ) n
    WHERE n.credited > greatest(0, i.total_minor + i.credit_minor) OR n.reduced <> i.reduced_minor
       OR n.refunded > n.received
"""

# I8: the numbers of notes are gap-free per organization: 1 to the sequence's last, each once.
NUMBERS = """
    SELECT coalesce(n.organization_id, q.organization_id) AS organization_id,
           coalesce(n.organization_id, q.organization_id)::text AS subject,
           format('%s credit note numbers from %s to %s, the sequence stands at %s', coalesce(n.numbers, 0),
                  n.first, n.last, coalesce(q.last_number, 0)) AS detail
    FROM (
        SELECT organization_id, count(DISTINCT place) AS numbers, min(place) AS first, max(place) AS last
        FROM (SELECT organization_id, substring(number FROM '[0-9]+$')::bigint AS place
              FROM tenant.credit_notes WHERE number IS NOT NULL) numbered
        GROUP BY organization_id
    ) n
    FULL JOIN tenant.credit_note_sequences q ON q.organization_id = n.organization_id
    WHERE coalesce(n.numbers, 0) <> coalesce(q.last_number, 0)
       OR coalesce(n.last, 0) <> coalesce(q.last_number, 0) OR n.first <> 1
"""
