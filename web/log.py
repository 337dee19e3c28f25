"""One line of JSON for each request: who, what, how long. Never a query, a body, a header or a key."""

import logging
import re
import secrets
import sys
import time
from datetime import UTC, datetime

import msgspec
from flask import Flask, Response, g, request

log = logging.getLogger("dunlin.web.request")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what a call gives as `extra={"fields": ...}` stands beside it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure_logging() -> None:
    """Send this process's log to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # No line says these, and looking them up costs each record as much as its text.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def request_id(given: str) -> str:
    """The id that the caller gave its request, if it is one, else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def write_line(fields: dict[str, object]) -> None:
    """Write the line of one request."""
    log.info("%s %s %d", fields["method"], fields["path"], fields["status"], extra={"fields": fields})


def install_log(app: Flask) -> None:
    """Give every request an id and a line in the log."""

    @app.before_request
    def begin() -> None:
        g.request_id = request_id(request.headers.get("X-Request-ID", ""))
        g.begun = time.perf_counter_ns()

    @app.after_request
    def end(response: Response) -> Response:
        if "request_id" not in g:
            return response
        response.headers["X-Request-ID"] = g.request_id
        caller = g.get("caller")
        write_line(
            {
                "request_id": g.request_id,
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "duration_ms": (time.perf_counter_ns() - g.begun) // 1_000_000,
                "bytes_in": request.content_length,
                "remote": request.remote_addr,
                "key_id": caller.key_id if caller else None,
            }
        )
        return response
