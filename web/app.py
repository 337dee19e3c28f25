"""The composition root of the web process: `granian --interface wsgi web.app:app`."""

import os
from collections.abc import Mapping

from flask import Flask

from models.database import PoolTerms

# Imported for their names: a ring is sent by the name of a task, and must find it.
from tasks import clocks, dunning, invoicing, jobs, payments, stripe_catalog, subscriptions, usage, webhooks
from tasks.composition import build_context
from tasks.queue import celery
from tasks.queue_settings import configure
from tasks.settings import Settings
from web.factory import create_app
from web.log import configure_logging

RUNG = (clocks, dunning, invoicing, jobs, payments, stripe_catalog, subscriptions, usage, webhooks)

# A request must not hang on a lock or a long statement: its sender waits for it.
_STATEMENT_TIMEOUT_S = 5


def build(environ: Mapping[str, str]) -> Flask:
    """The application of an environment. Raises BadSetting, UnsafeDatabaseRole."""
    settings = Settings.from_environ(environ)
    configure(celery, settings.redis_url)
    # Two for each thread: one that holds an organization's lock across a call to Stripe, one that works.
    pool = PoolTerms(size=2 * int(environ.get("WEB_THREADS", "8")), statement_timeout_s=_STATEMENT_TIMEOUT_S)
    context = build_context(settings, "web", pool)
    hosts = [host.strip() for host in environ.get("TRUSTED_HOSTS", "").split(",") if host.strip()]
    return create_app(context, trusted_hosts=hosts)


configure_logging()
app = build(os.environ)
