"""The admin's pages: sign in, what needs attention, lists, rows, and what staff do to one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any
from uuid import UUID

from flask import Blueprint, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from billing.errors import BillingError, InvalidTerms, NotFound
from models import admin_lists, overview, reading
from models.ops import AuditEntry, Job
from models.overview import Gauge
from models.reading import DATABASE_AWAY, OwnedKind
from models.work import redrive_job
from tasks import mails, releasing, users
from tasks.accounts import broken_batches, kept_accounts, product_totals
from tasks.context import Context
from tasks.documents import credit_note_pdf, invoice_pdf
from web.admin import sessions, showing
from web.admin.listing import ListPage
from web.admin.pages import BY_PATH, MENU
from web.ratelimit import SIGN_IN, CountingAway, RateLimiter, TooMany

MAX_PAGE = 1_000
_OPEN_PAGES = ("admin.sign_in",)
_RELATED_ROWS = 20
# To name the batches of a day its events are counted once more.
_MOST_BROKEN_DAYS = 3
_DOCUMENTS: Mapping[str, tuple[OwnedKind, Callable[[Context, UUID, UUID], bytes]]] = {
    "invoice": ("invoice", invoice_pdf),
    "creditnote": ("credit_note", credit_note_pdf),
}


def admin_blueprint(context: Context, limiter: RateLimiter) -> Blueprint:
    """The admin of a context, at `/admin/`."""
    admin = Blueprint("admin", __name__, url_prefix="/admin")
    views = _Views(context, limiter)
    admin.before_request(views.guard)
    admin.context_processor(lambda: {"menu": MENU, "form_token": sessions.form_token})
    for rule, view, methods in (
        ("/", views.home, ["GET"]),
        ("/login/", views.sign_in, ["GET", "POST"]),
        ("/logout/", views.sign_out, ["POST"]),
        ("/usage/accounts/", views.accounts, ["GET"]),
        ("/<area>/<name>/", views.listing, ["GET"]),
        ("/<area>/<name>/<uuid:key>/", views.row, ["GET"]),
        ("/ops/job/<uuid:key>/redrive/", views.redrive, ["POST"]),
        ("/billing/invoice/<uuid:key>/release/", views.release_invoice, ["POST"]),
        ("/organizations/organization/<uuid:key>/release/", views.release_organization, ["POST"]),
        ("/ops/mail/<uuid:key>/letter/", views.letter, ["GET"]),
        ("/billing/<any(invoice, creditnote):name>/<uuid:key>/pdf/", views.document, ["GET"]),
    ):
        admin.add_url_rule(rule, view_func=view, methods=methods, strict_slashes=False)
    admin.register_error_handler(HTTPException, _refused)
    for away in DATABASE_AWAY:
        admin.register_error_handler(away, _database_away)
    admin.register_error_handler(TooMany, _too_many)
    admin.register_error_handler(CountingAway, _counting_away)
    return admin


class _Views:
    """The views of one admin; the lists read through the auditor, who can write nothing."""

    def __init__(self, context: Context, limiter: RateLimiter) -> None:
        self._context = context
        self._limiter = limiter

    def guard(self) -> Response | None:
        """Nobody without a session gets past here, and no unsafe request without its form's token."""
        sessions.refuse_forged()
        g.person = sessions.signed_in(self._context)
        if g.person is None and request.endpoint not in _OPEN_PAGES:
            return redirect(url_for("admin.sign_in", next=request.path if request.method == "GET" else None))
        return None

    def sign_in(self) -> str | Response | tuple[str, int]:
        if request.method == "GET":
            return render_template("admin/sign_in.html", email="", refused=False)
        email, address = request.form.get("email", ""), request.remote_addr or ""
        self._limiter.refuse_used_up(SIGN_IN, address)
        found = (
            None
            if "\0" in email
            else users.check_password(self._context, email, request.form.get("password", ""))
        )
        if found is None:
            self._limiter.count(SIGN_IN, address)
            # One answer for a wrong password, an unknown address and a paused account.
            return render_template("admin/sign_in.html", email=email, refused=True), 401
        sessions.begin(self._context, found)
        self._audit(found.email, "signed_in", "user", found.user_id)
        return redirect(_own_page(request.args.get("next", "")))

    def sign_out(self) -> Response:
        sessions.end()
        return redirect(url_for("admin.sign_in"))

    def home(self) -> str:
        with self._context.auditor.system() as session:
            gauges = overview.gauges(session)
            runs, _ = admin_lists.rows(session, admin_lists.RECONCILIATIONS)
        return render_template(
            "admin/home.html", now=_by_name(gauges), jobs=_jobs(gauges), run=runs[0] if runs else None
        )

    def accounts(self) -> str:
        """The law of usage by product and day, as counted last; what breaks it, batch by batch."""
        try:
            days = kept_accounts(self._context, _asked_day("from"), _asked_day("to"))
        except InvalidTerms as refusal:
            abort(400, str(refusal))
        wrong = {day.day for day in days if not day.adds_up and day.day is not None}
        counted = [day.counted_at for day in days if day.counted_at is not None]
        return render_template(
            "admin/accounts.html",
            days=days,
            totals=product_totals(days),
            wrong=len(wrong),
            broken=broken_batches(self._context, sorted(wrong, reverse=True)[:_MOST_BROKEN_DAYS]),
            counted_at=(min(counted), max(counted)) if counted else None,
            first=request.args.get("from") or min((day.day for day in days if day.day), default=""),
            last=request.args.get("to") or max((day.day for day in days if day.day), default=""),
        )

    def listing(self, area: str, name: str) -> str:
        page = _page(area, name)
        filters = {
            name: value for name, value in request.args.items() if value and name in page.query.filters
        }
        here: dict[str, Any] = {"area": area, "name": name, **filters}
        search, number = request.args.get("q", "").strip()[:200], _page_number()
        if any("\0" in value for value in (search, *filters.values())):
            abort(400, "That cannot be searched for.")
        with self._context.auditor.system() as session:
            rows, more = admin_lists.rows(session, page.query, search=search, filters=filters, page=number)
        return render_template(
            "admin/list.html",
            page=page,
            rows=rows,
            more=more,
            number=number,
            filters=filters,
            search=search,
            elsewhere=lambda to: url_for("admin.listing", **here, q=search or None, page=to),
        )

    def row(self, area: str, name: str, key: UUID) -> str:
        page = _page(area, name)
        with self._context.auditor.system() as session:
            found = admin_lists.row(session, page.query, key)
            if found is None:
                abort(404, "There is no such row.")
            related = [
                (title, BY_PATH[path], name, *_few(session, BY_PATH[path], {name: str(key)}))
                for title, path, name in page.related
            ]
        shown, whole = found
        facts, nested = showing.split(whole)
        return render_template(
            "admin/row.html", page=page, shown=shown, facts=facts, nested=nested, related=related, key=key
        )

    def redrive(self, key: UUID) -> Response:
        """Give a dead job its attempts back, and ring for it."""
        with self._context.system() as unit:
            if not redrive_job(unit.session, key):
                abort(409, "Only a dead job can be given another try.")
            unit.session.add(_entry(sessions.person().email, "redrove", "job", key))
            unit.ring(unit.session.get_one(Job, key).kind, str(key))
        return redirect(url_for("admin.row", area="ops", name="job", key=key))

    def release_invoice(self, key: UUID) -> Response:
        """Let a parked invoice go on, or say why it cannot."""
        with self._context.auditor.system() as session:
            organization_id = reading.owner_of(session, "invoice", key)
        if organization_id is None:
            abort(404, "There is no such invoice.")
        with _refusals_shown():
            releasing.release_invoice(self._context, organization_id, key, sessions.person().email)
        return redirect(url_for("admin.row", area="billing", name="invoice", key=key))

    def release_organization(self, key: UUID) -> Response:
        """Let a parked organization go on, or say why it cannot."""
        with _refusals_shown():
            releasing.release_organization(self._context, key, sessions.person().email)
        return redirect(url_for("admin.row", area="organizations", name="organization", key=key))

    def letter(self, key: UUID) -> Response:
        """A mail as its reader sees it, in a page that can do nothing but be looked at."""
        with self._context.auditor.system() as session:
            row = reading.notification(session, key)
        if row is None or row.channel != "mail":
            abort(404, "There is no such mail.")
        written = mails.letter(self._context, row.organization_id, row)
        policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
        return make_response(written.html, {"Content-Security-Policy": policy})

    def document(self, name: str, key: UUID) -> Response:
        """An invoice or a credit note as its customer has it."""
        kind, written = _DOCUMENTS[name]
        with self._context.auditor.system() as session:
            organization_id = reading.owner_of(session, kind, key)
        if organization_id is None:
            abort(404, "There is no such document.")
        pdf = written(self._context, organization_id, key)
        return make_response(pdf, {"Content-Type": "application/pdf", "Content-Disposition": "inline"})

    def _audit(self, actor: str, action: str, object_type: str, object_id: UUID) -> None:
        with self._context.system() as unit:
            unit.session.add(_entry(actor, action, object_type, object_id))


@contextmanager
def _refusals_shown() -> Iterator[None]:
    try:
        yield
    except NotFound as missing:
        abort(404, f"{str(missing).capitalize()}.")
    except BillingError as refusal:  # a rule's, or Stripe's: the person reads why
        why = str(refusal)
        abort(409, f"{why[:1].upper()}{why[1:]}.")


def _entry(actor: str, action: str, object_type: str, object_id: UUID) -> AuditEntry:
    return AuditEntry(
        actor=actor, action=action, object_type=object_type, object_id=str(object_id), detail={}
    )


def _page(area: str, name: str) -> ListPage:
    page = BY_PATH.get(f"{area}/{name}")
    if page is None or page.inner:
        abort(404, "There is no such page.")
    return page


def _asked_day(name: str) -> date | None:
    given = request.args.get(name)
    try:
        return date.fromisoformat(given) if given else None
    except ValueError:
        abort(400, "A day is written as 2026-04-30.")


def _page_number() -> int:
    given = request.args.get("page", "1")
    usable = given.isascii() and given.isdigit() and len(given) <= 4
    return min(max(int(given), 1), MAX_PAGE) if usable else 1


def _few(session: Any, page: ListPage, filters: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool]:
    rows, more = admin_lists.rows(session, page.query, filters=filters)
    return rows[:_RELATED_ROWS], more or len(rows) > _RELATED_ROWS


def _own_page(path: str) -> str:
    """Where to go after signing in: a page of the admin, whatever the address says."""
    inside = path.startswith("/admin/") and "//" not in path and "\\" not in path
    return path if inside else url_for("admin.home")


def _by_name(gauges: list[Gauge]) -> dict[str, dict[str, int]]:
    """The gauges by name and by the value of their (last) label; unlabelled ones under ''."""
    found: dict[str, dict[str, int]] = {}
    for gauge in gauges:
        label = list(gauge.labels.values())[-1] if gauge.labels else ""
        values = found.setdefault(gauge.name, {})
        values[label] = values.get(label, 0) + gauge.value
    return found


def _jobs(gauges: list[Gauge]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for gauge in gauges:
        if gauge.name == "dunlin_jobs":
            found.setdefault(gauge.labels["kind"], {})[gauge.labels["state"]] = gauge.value
    return dict(sorted(found.items()))


def _refused(error: HTTPException) -> tuple[str, int]:
    status = error.code or 500
    return render_template(
        "admin/refused.html", status=status, name=error.name, why=error.description
    ), status


def _too_many(refusal: TooMany) -> tuple[str, int, dict[str, str]]:
    why = f"There were {refusal} from here. Try again in {refusal.retry_after_s} seconds."
    page = render_template("admin/refused.html", status=429, name="Too many tries", why=why)
    return page, 429, {"Retry-After": str(refusal.retry_after_s)}


def _counting_away(_: CountingAway) -> tuple[str, int]:
    why = "Tries to sign in cannot be counted at the moment, so nobody can sign in. Is Redis running?"
    return render_template("admin/refused.html", status=503, name="Not available", why=why), 503


def _database_away(_: Exception) -> tuple[str, int]:
    why = "The database does not answer, or not in time. Narrow the list down, or try again in a moment."
    return render_template("admin/refused.html", status=503, name="Not available", why=why), 503
