"""The credit balance: what an invoice uses of it or adds to it, and which grants are left."""

from __future__ import annotations

from collections.abc import Sequence

from billing.currencies import never_too_little
from billing.money import Money


def used(balance: Money, payable: Money) -> Money:
    """The credit that an invoice uses up: at most what it asks for, at most what there is.

    Below zero where an invoice adds to the balance: one whose credits outweigh its charges gives
    all of them, and one that finds a debt carried over takes it in.
    """
    return min(balance, payable)


def is_carried(due: Money) -> bool:
    """Whether what is due may be so little that it goes on the next invoice instead of a card.

    Stripe marks an invoice below its minimum charge as paid and carries the amount over to the next.
    """
    return 0 < due.minor < never_too_little(due.currency)


def unspent(entries: Sequence[int]) -> list[int]:
    """What is left of each entry of a ledger, in its sequence, when the oldest credit is spent first.

    Args: signed entries, credit above zero. Returns: for each the part not used up yet; below zero, what
    is owed and no credit covered. The parts sum to the balance.
    """
    left = list(entries)
    for new in range(len(left)):
        for old in range(new):
            if left[old] * left[new] < 0:
                part = min(abs(left[old]), abs(left[new]))
                towards = 1 if left[old] < 0 else -1
                left[old] += towards * part
                left[new] -= towards * part
    return left
