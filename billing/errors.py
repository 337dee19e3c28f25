"""Expected refusals of the billing rules; anything else that is raised here is a programmer's mistake."""

from __future__ import annotations

from typing import ClassVar


class BillingError(Exception):
    """A refusal that a caller can explain to a person.

    `code` is stable and machine-readable; `field` names the input at fault, where one is.
    """

    code: ClassVar[str] = "billing_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class CurrencyMismatch(BillingError):
    """Two amounts of different currencies met; there is no implicit conversion."""

    code = "currency_mismatch"


class InvalidUsage(BillingError):
    """A usage event, quantity or instant that cannot be metered."""

    code = "invalid_usage"


class InvalidTerms(BillingError):
    """Price terms, a policy or an invoice's parts that contradict themselves."""

    code = "invalid_terms"


class NotFound(BillingError):
    """The thing does not exist, or belongs to someone else: the two look the same."""

    code = "not_found"


class Conflict(BillingError):
    """The same identity with another content, or a state that no longer allows the request."""

    code = "conflict"


class UnderWay(Conflict):
    """Something before it is not done yet: the same request may be made again in a moment."""

    code = "under_way"


class RefusedTransition(BillingError):
    """A lifecycle does not allow this step."""

    code = "refused_transition"

    def __init__(self, current: str, target: str, why: str) -> None:
        super().__init__(f"cannot go from {current} to {target}: {why}")
        self.current = current
        self.target = target
        self.why = why

    def __reduce__(self) -> tuple[type[RefusedTransition], tuple[str, str, str]]:
        # Worker processes pickle exceptions; the default would call us with the message alone.
        return type(self), (self.current, self.target, self.why)
