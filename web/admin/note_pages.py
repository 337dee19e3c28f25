"""The lists of credit notes and their lines."""

from models import note_lists
from web.admin.listing import Column, ListPage, of_invoice, of_organization

PAGES: tuple[ListPage, ...] = (
    ListPage(
        "billing",
        "creditnote",
        "Credit notes",
        "Credit note",
        note_lists.NOTES,
        (
            Column("number", "Number", "code", page="billing/creditnote"),
            of_organization(),
            of_invoice(),
            Column("state", "State", "badge"),
            Column("amount_minor", "Amount", "money"),
            Column("reduces_due_minor", "Off due", "money"),
            Column("refund_minor", "Refunded", "money"),
            Column("credit_minor", "As credit", "money"),
            Column("out_of_band_minor", "Out of band", "money"),
            Column("reason", "Reason"),
            Column("issued_at", "Issued", "time"),
        ),
        {"state": ("pending", "issued", "void", "refused")},
        (("Lines", "billing/creditnoteline", "note"),),
    ),
    ListPage(
        "billing",
        "creditnoteline",
        "Credited lines",
        "Credited line",
        note_lists.NOTE_LINES,
        (
            Column("description", "Of the line"),
            Column("quantity", "Quantity", "number"),
            Column("amount_minor", "Amount", "money"),
            Column("discount_minor", "Discount", "money"),
            Column("tax_minor", "Tax", "money"),
            Column("total_minor", "Total", "money"),
        ),
        inner=True,
    ),
)
