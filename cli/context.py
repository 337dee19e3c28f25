"""The context of a command: from the environment, or from the system that runs on this machine."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models.database import PoolTerms
from tasks.composition import build_context, load_use_cases
from tasks.context import Context
from tasks.queue import celery
from tasks.queue_settings import configure
from tasks.settings import Settings

_FILE = "environment.json"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a local system keeps its state: DUNLIN_STATE_DIR, or ./var."""
    return Path(environ.get("DUNLIN_STATE_DIR") or "var")


def settings_environ(environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """The environment, when it names a database; else what a local system left in its state directory."""
    path = state_dir(environ) / _FILE
    if environ.get("DATABASE_URL") or not path.exists():
        return environ
    left: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {**environ, **left}


@contextmanager
def opened(environ: Mapping[str, str] | None = None) -> Iterator[Context]:
    """A context for one command. Raises BadSetting, UnsafeDatabaseRole."""
    settings = Settings.from_environ(settings_environ() if environ is None else environ)
    load_use_cases()
    configure(celery, settings.redis_url)
    context = build_context(settings, "cli", PoolTerms(size=4, statement_timeout_s=120))
    try:
        context.database.refuse_unsafe_role()
        yield context
    finally:
        context.database.close()
        context.auditor.close()
