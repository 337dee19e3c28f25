"""The pages, as a person with a browser uses them: links, forms with their token, no script."""

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.integration.sandbox.local import Local
from tests.integration.sandbox.people import Town


class Browser:
    """Follows links and submits the forms that it sees."""

    def __init__(self, local: Local) -> None:
        self._base = local.base
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        self.page = ""
        self.path = ""

    def open(self, url: str) -> str:
        return self._go(urllib.request.Request(url if url.startswith("http") else self._base + url))

    def submit(self, path: str, **fields: str) -> str:
        """Post a form of the page that is open."""
        [token] = set(re.findall(r'name="token" value="([^"]+)"', self.page))
        body = urllib.parse.urlencode({"token": token, **fields}).encode()
        return self._go(urllib.request.Request(self._base + path, data=body))

    def _go(self, request: urllib.request.Request) -> str:
        with self._opener.open(request, timeout=10) as reply:
            self.path = urllib.parse.urlsplit(reply.url).path
            self.page = reply.read().decode()
        return self.page


def test_the_overview_and_the_lists_show_what_is_there(local: Local) -> None:
    town = Town(local)
    ada = town.customer(name="Ada <Lovelace>")
    subscription = town.subscribe(ada, town.price())
    browser = Browser(local)
    overview = browser.open("/")
    assert "Ada &lt;Lovelace&gt;" in overview
    assert subscription.id in overview
    for name in ("customers", "invoices", "events", "clocks", "products", "tax%20rates"):
        assert "<table" in browser.open(f"/list/{name}") or "Nothing yet" in browser.page
    shown = browser.open(f"/object/{subscription.id}")
    assert "customer.subscription.created" in shown
    assert "&#34;status&#34;: &#34;active&#34;" in shown
    with pytest.raises(urllib.error.HTTPError):
        browser.open("/object/nothing")


def test_a_customer_pays_declines_and_authenticates(local: Local) -> None:
    town = Town(local)
    ada = town.customer(card=None)
    subscription = town.subscribe(ada, town.price(), payment_behavior="default_incomplete")
    url = town.api.invoices.retrieve(subscription.latest_invoice).hosted_invoice_url
    browser = Browser(local)
    assert "Pay 30.00 USD" in browser.open(url)
    declined = browser.submit(browser.path, card="pm_card_visa_chargeDeclinedInsufficientFunds")
    assert "Your card has insufficient funds." in declined
    assert town.again(subscription).status == "incomplete"
    browser.submit(browser.path, card="pm_card_authenticationRequired")
    assert browser.path.startswith("/authenticate/pi_")
    browser.submit(browser.path, outcome="fail")
    assert town.again(subscription).status == "incomplete"
    browser.submit(browser.path, card="pm_card_authenticationRequired")
    paid = browser.submit(browser.path, outcome="complete")
    assert "Paid 2026-01-31 10:00." in paid
    assert town.again(subscription).status == "active"


def test_a_customer_saves_cards_and_the_bank_changes_its_mind(local: Local) -> None:
    town = Town(local)
    ada = town.customer(card=None)
    browser = Browser(local)
    home = f"/customer/{ada.id}"
    browser.open(town.api.billing_portal.sessions.create({"customer": ada.id}).url)
    assert (browser.path, "No card is saved." in browser.page) == (home, True)
    assert "Your card was declined." in browser.submit(f"{home}/cards", card="pm_card_visa_chargeDeclined")
    browser.submit(f"{home}/cards", card="pm_card_visa")
    [card] = town.api.customers.payment_methods.list(ada.id).data
    browser.submit(f"{home}/default", card=card.id)
    assert town.api.customers.retrieve(ada.id).invoice_settings.default_payment_method == card.id
    browser.submit(f"/card/{card.id}/bank", decline="lost_card")
    assert town.subscribe(ada, town.price()).status == "incomplete"


def test_checkout_saves_a_card_and_leads_back(local: Local) -> None:
    town = Town(local)
    ada = town.customer(card=None)
    back = f"{local.base}/list/customers?from={{CHECKOUT_SESSION_ID}}"
    session = town.api.checkout.sessions.create(
        {
            "mode": "setup",
            "customer": ada.id,
            "success_url": back,
            "cancel_url": local.base,
            "currency": "usd",
        }
    )
    browser = Browser(local)
    browser.open(session.url)
    browser.submit(browser.path, card="pm_card_visa")
    assert browser.path == "/list/customers"
    done = town.api.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
    assert (done.status, done.setup_intent.status) == ("complete", "succeeded")
    assert "checkout.session.completed" in town.local.told_about(session.id)


def test_a_form_from_elsewhere_changes_nothing(local: Local) -> None:
    town = Town(local)
    ada = town.customer(card=None)
    status, _, _ = _post(local, f"/customer/{ada.id}/cards", "card=pm_card_visa&token=guess")
    assert status == 403
    assert town.api.customers.payment_methods.list(ada.id).data == []


def _post(local: Local, path: str, form: str) -> tuple[int, bytes, str]:
    request = urllib.request.Request(local.base + path, data=form.encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read(), reply.url
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read(), ""
