"""The Flask application: the API under `/v1`, the switches under `/_sandbox`, the pages everywhere else."""

import json
import secrets
import socket
import time

from flask import Flask, Response, request
from werkzeug.exceptions import InternalServerError

from . import control
from .dispatch import Dispatcher, Reply, Request
from .errors import ApiError
from .pages.actions import actions
from .pages.views import pages


def create_app(dispatcher: Dispatcher) -> Flask:
    """The whole sandbox as one WSGI application."""
    app = Flask(
        __name__, template_folder="pages/templates", static_folder="pages/static", static_url_path="/static"
    )
    # Flashed messages live in a signed cookie; a restart may forget them.
    app.secret_key = secrets.token_bytes(24)
    app.register_blueprint(control.blueprint(dispatcher))
    app.register_blueprint(pages(dispatcher))
    app.register_blueprint(actions(dispatcher))

    @app.route("/v1/<path:rest>", methods=["GET", "POST", "DELETE"])
    def api(rest: str) -> Response:
        reply = dispatcher.handle(
            Request(
                method=request.method,
                path=f"/v1/{rest.rstrip('/')}",
                query=request.query_string.decode(),
                body=request.get_data(as_text=True),
                headers={name.lower(): value for name, value in request.headers.items()},
            )
        )
        return _hang_up(reply) if reply.hang_up_after_s is not None else _response(reply)

    @app.errorhandler(InternalServerError)
    def broken(error: InternalServerError) -> Response | InternalServerError:
        """A mistake of the sandbox itself; Flask has written its traceback to stderr."""
        if not request.path.startswith("/v1/"):
            return error
        failure = ApiError(500, "api_error", f"The sandbox failed: {error.original_exception!r}")
        return Response(json.dumps(failure.body("req_failed")), status=500, mimetype="application/json")

    return app


def _response(reply: Reply) -> Response:
    return Response(reply.body, status=reply.status, headers=reply.headers)


def _hang_up(reply: Reply) -> Response:
    """Keep the caller waiting, then cut the connection: it never learns how the request ended."""
    time.sleep(reply.hang_up_after_s or 0)
    connection = request.environ.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        connection.shutdown(socket.SHUT_RDWR)
    return Response(status=504)
