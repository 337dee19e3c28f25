"""The context of a command: from the environment, or from the system that runs on this machine."""

import importlib
import json
import os
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tasks
from models.database import PoolTerms
from tasks.composition import build_context
from tasks.context import Context
from tasks.queue import celery
from tasks.queue_settings import configure
from tasks.settings import Settings

_FILE = "environment.json"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a local system keeps its state: DUNLIN_STATE_DIR, or ./var."""
    return Path(environ.get("DUNLIN_STATE_DIR") or "var")


def remember(folder: Path, environment: Mapping[str, str]) -> None:
    """Leave a local system's settings where the other commands find them; only its owner can read them."""
    path = folder / _FILE
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(dict(environment), indent=1), encoding="utf-8")


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
    for module in pkgutil.iter_modules(tasks.__path__, "tasks."):
        importlib.import_module(module.name)  # a use case may ring for any task
    configure(celery, settings.redis_url)
    context = build_context(settings, "cli", PoolTerms(size=4, statement_timeout_s=120))
    try:
        context.database.refuse_unsafe_role()
        yield context
    finally:
        context.database.close()
        context.auditor.close()
