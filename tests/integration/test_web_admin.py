"""The admin: who gets in, what is shown, and the one thing that can be done."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from models.base import new_id
from tasks import accounts, users
from tests.integration.web_world import WebWorld, web_world
from web.admin.pages import PAGES
from web.admin.sessions import LIFETIME

EMAIL, PASSWORD = "ada@dunlin.example", "nine storks on a wire"
SEED_PATHS = (
    "/admin/products/product/",
    "/admin/products/productplan/",
    "/admin/products/subscriptionbundle/",
    "/admin/subscriptions/productsubscription/",
    "/admin/subscriptions/usagerecord/",
)


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_admin") as made:
        users.create_user(made.context, EMAIL, PASSWORD)
        yield made


@pytest.fixture(scope="module")
def signed_in(world: WebWorld) -> str:
    """The cookie of a session of Ada's; made once, since a password is slow to check on purpose."""
    answer = _sign_in(world.client, EMAIL, PASSWORD)
    return answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]


@pytest.fixture
def ada(world: WebWorld, signed_in: str) -> FlaskClient:
    """A browser in which Ada is signed in."""
    browser = world.client
    browser.set_cookie("dunlin", signed_in)
    return browser


def _token(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found, "every form carries the session's token"
    return found[1]


def _sign_in(browser: FlaskClient, email: str, password: str, to: str = "/admin/login/") -> TestResponse:
    token = _token(browser.get("/admin/login/").text)
    return browser.post(to, data={"email": email, "password": password, "token": token})


def _words(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_usage_accounts_show_each_day_and_name_the_batch_that_does_not_add_up(
    world: WebWorld, ada: FlaskClient
) -> None:
    day = "/admin/usage/accounts/?from=2026-04-01&to=2026-04-01"
    assert "No usage was accepted" in ada.get(day).text
    accounts.count(world.context)
    page = _words(ada.get(day).text)
    assert "every day adds up" in page
    assert "14 accepted = 8 rated + 2 waiting + 2 quarantined + 2 duplicate" in page

    world.sql("UPDATE ops.usage_inbox SET duplicates = 0 WHERE id = :id", id=world.acme.batch_id)
    world.sql("UPDATE ops.usage_days SET counted_at = '2026-04-01Z'")
    accounts.count(world.context)
    page = _words(ada.get(day).text)
    assert "1 day does not add up" in page
    assert "14 accepted ≠ 8 rated + 2 waiting + 2 quarantined + 1 duplicate" in page
    assert f"{world.acme.batch_id} accepted 7 4 1 1 0 1 missing" in page
    assert "1 day does not add up" in _words(ada.get("/admin/").text)
    world.sql("UPDATE ops.usage_inbox SET duplicates = 1 WHERE id = :id", id=world.acme.batch_id)
    world.sql("DELETE FROM ops.usage_days")
    for bad in ("from=yesterday", "from=2026-01-01&to=2026-12-31", "from=%00"):
        assert ada.get(f"/admin/usage/accounts/?{bad}").status_code == 400


# -- getting in ------------------------------------------------------------------------------------


def test_every_page_sends_a_stranger_to_the_door(world: WebWorld) -> None:
    for path in ("/admin/", *SEED_PATHS, *(f"/admin/{page.path}/" for page in PAGES)):
        answer = world.client.get(path)
        assert answer.status_code == 302
        assert answer.location.startswith("/admin/login/")


def test_signing_in_leads_to_where_one_wanted_to_go(world: WebWorld) -> None:
    answer = _sign_in(world.client, EMAIL.upper(), PASSWORD, "/admin/login/?next=/admin/billing/invoice/")
    assert answer.location == "/admin/billing/invoice/"


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/admin//evil.example", "/api/"])
def test_signing_in_leads_nowhere_else(world: WebWorld, to: str) -> None:
    assert _sign_in(world.client, EMAIL, PASSWORD, f"/admin/login/?next={to}").location == "/admin/"


def test_the_cookie_cannot_be_read_by_scripts_or_sent_from_elsewhere(world: WebWorld) -> None:
    cookie = _sign_in(world.client, EMAIL, PASSWORD).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_unknown_people_and_wrong_passwords_are_told_the_same(world: WebWorld) -> None:
    wrong = _sign_in(world.client, EMAIL, "something else")
    unknown = _sign_in(world.client, "nobody@dunlin.example", "something else")
    assert wrong.status_code == unknown.status_code == 401
    assert _words(wrong.text) == _words(unknown.text)


def _has_tried(world: WebWorld, email: str, times: int) -> None:
    users.create_user(world.context, email, PASSWORD)
    world.sql("UPDATE ops.users SET failed_logins = :times WHERE email = :email", times=times, email=email)


def test_ten_wrong_tries_pause_the_account_for_five_minutes(world: WebWorld) -> None:
    email = "grace@dunlin.example"
    _has_tried(world, email, users.MAX_TRIES - 2)
    for _ in range(2):
        assert users.check_password(world.context, email, "wrong") is None
    assert users.check_password(world.context, email, PASSWORD) is None
    world.wall.passes(users.PAUSE - timedelta(seconds=1))
    assert users.check_password(world.context, email, PASSWORD) is None
    world.wall.passes(timedelta(seconds=1))
    assert users.check_password(world.context, email, PASSWORD) is not None


def test_success_forgets_the_tries_before_it(world: WebWorld) -> None:
    email = "joan@dunlin.example"
    _has_tried(world, email, users.MAX_TRIES - 2)
    assert users.check_password(world.context, email, "wrong") is None
    assert users.check_password(world.context, email, PASSWORD) is not None
    assert users.check_password(world.context, email, "wrong") is None
    assert users.check_password(world.context, email, PASSWORD) is not None


def test_passwords_are_stored_as_argon2id(world: WebWorld) -> None:
    stored = world.sql("SELECT password_hash FROM ops.users WHERE email = :email", email=EMAIL)[0][0]
    assert stored.startswith("$argon2id$")


def test_a_session_ends_after_twelve_hours(world: WebWorld, ada: FlaskClient) -> None:
    assert ada.get("/admin/").status_code == 200
    world.wall.passes(LIFETIME + timedelta(seconds=1))
    assert ada.get("/admin/").status_code == 302
    world.wall.passes(-LIFETIME)


def test_a_new_password_ends_every_session(world: WebWorld) -> None:
    users.create_user(world.context, "edith@dunlin.example", PASSWORD)
    browser = world.client
    _sign_in(browser, "edith@dunlin.example", PASSWORD)
    assert browser.get("/admin/").status_code == 200
    assert users.set_password(world.context, "edith@dunlin.example", "another good password")
    assert browser.get("/admin/").status_code == 302


def test_signing_out(ada: FlaskClient) -> None:
    token = _token(ada.get("/admin/").text)
    assert ada.post("/admin/logout/", data={"token": token}).status_code == 302
    assert ada.get("/admin/").status_code == 302


@pytest.mark.parametrize(
    "path", ["/admin/login/", "/admin/logout/", f"/admin/ops/job/{UUID(int=1)}/redrive/"]
)
@pytest.mark.parametrize("token", ["", "guessed", "é"])
def test_a_form_without_the_sessions_token_is_refused(ada: FlaskClient, path: str, token: str) -> None:
    ada.get("/admin/")
    assert ada.post(path, data={"token": token, "email": EMAIL, "password": PASSWORD}).status_code == 400


def test_an_api_key_opens_no_page_and_a_session_no_api(world: WebWorld, ada: FlaskClient) -> None:
    assert world.call("GET", "/admin/", "admin").status_code == 302
    assert ada.get("/api/billing/organizations/").status_code == 401


# -- what is shown ---------------------------------------------------------------------------------


def test_the_first_page_says_that_usage_adds_up(world: WebWorld, ada: FlaskClient) -> None:
    accounts.count(world.context)
    words = _words(ada.get("/admin/").text)
    assert "Accepted 14 rated 8 waiting 2 quarantined 2 duplicate 2 adds up" in words
    assert "0 dead jobs" in words


@pytest.mark.parametrize("path", SEED_PATHS)
def test_the_pages_of_the_seed(ada: FlaskClient, path: str) -> None:
    assert ada.get(path).status_code == 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_list_opens_with_each_search_and_filter(ada: FlaskClient, page) -> None:  # type: ignore[no-untyped-def]
    expected = 404 if page.inner else 200
    queries = [{}, {"q": "a%_'\\"}, {"page": "2"}, {"page": "x"}]
    queries += [{name: value} for name in page.query.filters for value in ("true", str(new_id()), "'")]
    for query in queries:
        assert ada.get(f"/admin/{page.path}/", query_string=query).status_code == expected, query


def test_every_row_opens(world: WebWorld, ada: FlaskClient) -> None:
    opened = 0
    for page in PAGES:
        found = re.search(
            rf'href="(/admin/{page.path}/[0-9a-f-]{{36}}/?)"', ada.get(f"/admin/{page.path}/").text
        )
        if found:
            assert ada.get(found[1]).status_code == 200
            opened += 1
    assert opened >= 6


def test_an_invoice_shows_its_lines_and_payments(world: WebWorld, ada: FlaskClient) -> None:
    words = _words(ada.get(f"/admin/billing/invoice/{world.acme.invoice_ids[0]}/").text)
    assert "ACME-000001" in words
    assert "Flow usage 125 $1.60" in words
    assert "$50.60" in words


def test_an_invoice_is_shown_as_its_document(world: WebWorld, ada: FlaskClient) -> None:
    path = f"/admin/billing/invoice/{world.acme.invoice_ids[0]}/"
    assert f'href="{path}pdf/"' in ada.get(path).text

    document = ada.get(f"{path}pdf/")

    assert (document.status_code, document.mimetype, document.data[:5]) == (200, "application/pdf", b"%PDF-")
    assert ada.get(f"/admin/billing/creditnote/{world.acme.invoice_ids[0]}/pdf/").status_code == 404
    assert world.client.get(f"{path}pdf/").status_code == 302


def test_usage_can_be_narrowed_to_what_is_unbilled(ada: FlaskClient) -> None:
    words = _words(ada.get("/admin/subscriptions/usagerecord/?state=quarantined").text)
    assert "no subscription" in words
    assert [words.count(f" {state} no ") for state in ("quarantined", "rated", "waiting")] == [2, 0, 0]


def test_what_customers_typed_is_text(world: WebWorld, ada: FlaskClient) -> None:
    world.sql(
        "UPDATE catalog.organizations SET name = '<script>alert(1)</script>' WHERE id = :id",
        id=world.globex.organization_id,
    )
    page = ada.get("/admin/organizations/organization/").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_unknown_pages_and_rows(ada: FlaskClient) -> None:
    assert ada.get("/admin/ops/nothing/").status_code == 404
    assert ada.get(f"/admin/ops/job/{new_id()}/").status_code == 404


def test_no_secret_is_shown(world: WebWorld, ada: FlaskClient) -> None:
    assert "key_hash" not in ada.get("/admin/ops/key/").text
    assert "reply" not in next(page for page in PAGES if page.name == "stripecall").query.columns


# -- another try -----------------------------------------------------------------------------------


def _job(world: WebWorld, state: str) -> UUID:
    job_id = new_id()
    world.sql(
        "INSERT INTO ops.jobs (id, kind, unique_key, due_at, state, attempts, deferrals, last_error) "
        "VALUES (:id, 'invoicing.close_period', :key, now(), :state, 5, 0, 'ValueError: broken')",
        id=job_id,
        key=str(job_id),
        state=state,
    )
    return job_id


def test_a_dead_job_is_given_another_try(world: WebWorld, ada: FlaskClient) -> None:
    job_id = _job(world, "dead")
    page = ada.get(f"/admin/ops/job/{job_id}/").text
    assert "ValueError: broken" in page
    answer = ada.post(f"/admin/ops/job/{job_id}/redrive/", data={"token": _token(page)})
    assert answer.status_code == 302
    state = world.sql("SELECT state, attempts FROM ops.jobs WHERE id = :id", id=job_id)[0]
    assert tuple(state) == ("queued", 0)
    assert ("invoicing.close_period", str(job_id)) in world.bell.rung
    audited = world.sql("SELECT actor, action FROM ops.audit_log WHERE object_id = :id", id=str(job_id))
    assert [tuple(entry) for entry in audited] == [(EMAIL, "redrove")]


@pytest.mark.parametrize("state", ["queued", "done"])
def test_only_a_dead_one(world: WebWorld, ada: FlaskClient, state: str) -> None:
    job_id = _job(world, state)
    token = _token(ada.get("/admin/").text)
    assert ada.post(f"/admin/ops/job/{job_id}/redrive/", data={"token": token}).status_code == 409
    assert world.sql("SELECT 1 FROM ops.audit_log WHERE object_id = :id", id=str(job_id)) == []


# -- what is parked --------------------------------------------------------------------------------


def test_a_parked_invoice_says_why_and_stays_so_while_its_totals_differ(
    world: WebWorld, ada: FlaskClient
) -> None:
    invoice_id = world.acme.invoice_ids[0]
    page = f"/admin/billing/invoice/{invoice_id}/"
    assert "release it" not in ada.get(page).text
    token = _token(ada.get("/admin/").text)
    answer = ada.post(page + "release/", data={"token": token})
    assert (answer.status_code, "The invoice is not parked." in answer.text) == (409, True)
    unknown = ada.post(f"/admin/billing/invoice/{new_id()}/release/", data={"token": token})
    assert unknown.status_code == 404
    world.sql(
        "UPDATE tenant.invoices SET parked_at = now(), parked_reason = 'a look' WHERE id = :id", id=invoice_id
    )
    world.sql(
        "UPDATE catalog.organizations SET parked_at = now(), parked_reason = 'I2: off by one' WHERE id = :id",
        id=world.acme.organization_id,
    )
    try:
        shown = ada.get(page).text
        assert "Look again and release it" in shown
        assert "Parked: a look" in shown
        assert (
            "I2: off by one"
            in ada.get(f"/admin/organizations/organization/{world.acme.organization_id}/").text
        )
        refused = ada.post(page + "release/", data={"token": token})
        assert (refused.status_code, "release that first" in refused.text) == (409, True)
        assert world.sql("SELECT 1 FROM ops.audit_log WHERE action = 'invoice.release'") == []
    finally:
        world.sql(
            "UPDATE tenant.invoices SET parked_at = NULL, parked_reason = NULL WHERE id = :id", id=invoice_id
        )
        world.sql("UPDATE catalog.organizations SET parked_at = NULL, parked_reason = NULL")
