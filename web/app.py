"""The composition root of the web process: `granian --interface wsgi web.app:app`."""

import importlib
import os
import pkgutil
from collections.abc import Mapping

from flask import Flask

import tasks
from models.database import PoolTerms
from tasks.composition import build_context
from tasks.queue import celery
from tasks.queue_settings import configure
from tasks.settings import Settings
from web.factory import create_app
from web.log import configure_logging

# A request must not hang on a lock or a long statement: its sender waits for it.
_STATEMENT_TIMEOUT_S = 5


def build(environ: Mapping[str, str]) -> Flask:
    """The application of an environment. Raises BadSetting, UnsafeDatabaseRole."""
    settings = Settings.from_environ(environ)
    configure(celery, settings.redis_url)
    # Two for each thread: one that holds an organization's lock across a call to Stripe, one that works.
    pool = PoolTerms(size=2 * int(environ.get("WEB_THREADS", "16")), statement_timeout_s=_STATEMENT_TIMEOUT_S)
    context = build_context(settings, "web", pool)
    hosts = [host.strip() for host in environ.get("TRUSTED_HOSTS", "").split(",") if host.strip()]
    return create_app(context, trusted_hosts=hosts, proxies=int(environ.get("TRUSTED_PROXIES", "0")))


# A ring is sent by a task's name, and every task must be known here for that.
for module in pkgutil.iter_modules(tasks.__path__, "tasks."):
    importlib.import_module(module.name)
configure_logging()
app = build(os.environ)
