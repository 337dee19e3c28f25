"""Every story is told twice: on the sandbox always, on Stripe's test mode when STRIPE_TEST_KEY is set."""

from collections.abc import Iterator

import pytest

from tests.contract.account import Account, sandbox_account, stripe_account


@pytest.fixture(
    scope="module",
    params=["sandbox", pytest.param("stripe", marks=pytest.mark.stripe)],
    ids=lambda name: name,
)
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    """An account; one sandbox process serves a whole file."""
    with sandbox_account() if request.param == "sandbox" else stripe_account() as ready:
        yield ready


@pytest.fixture(autouse=True)
def every_event_is_judged(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a story, what happened on the sandbox is judged to the last event, looked at or not."""
    yield
    account = request.node.funcargs.get("account")
    if account is not None and account.is_sandbox:
        account.judge_new_events()
