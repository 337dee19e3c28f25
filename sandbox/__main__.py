"""`python -m sandbox`: the local Stripe as a process of its own."""

import argparse
import logging
import signal
import sys
import threading
import time
from types import FrameType

from werkzeug.serving import WSGIRequestHandler, make_server

from .app import create_app
from .delivery import RETRY_AFTER_S, Deliverer
from .dispatch import Dispatcher
from .engine.clock import WallTicker, run_clock
from .faults import Faults
from .resources import api
from .resources.webhook_endpoints import add_endpoint
from .store import Store


class _Handler(WSGIRequestHandler):
    """Keeps connections open between requests and writes no log line for each."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A local Stripe.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 takes a free port and prints it")
    parser.add_argument(
        "--state", default=":memory:", help="SQLite file that survives restarts (default: memory)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what the state file holds")
    parser.add_argument("--webhook", metavar="URL", help="make sure that an endpoint for all events exists")
    parser.add_argument("--webhook-secret", metavar="WHSEC", help="the secret of that endpoint")
    parser.add_argument(
        "--retry-after",
        type=lambda text: tuple(float(part) for part in text.split(",") if part),
        default=RETRY_AFTER_S,
        metavar="S,S,...",
        help="seconds before each retry of a webhook (default 1,3,10,30)",
    )
    return parser.parse_args()


def _wall() -> int:
    return int(time.time())


def _ensure_endpoint(dispatcher: Dispatcher, url: str, secret: str | None) -> None:
    with dispatcher.store.transaction() as tx:
        same = next((doc for doc in tx.select("webhook_endpoint") if doc["url"] == url), None)
        if same is None:
            add_endpoint(dispatcher.world(tx), url, ["*"], secret)
        elif secret:
            same["_secret"] = secret


def _resume_clocks(dispatcher: Dispatcher) -> None:
    """Clocks that were advancing when the process was killed go on."""
    with dispatcher.store.transaction() as tx:
        stopped = [doc["id"] for doc in tx.select("test_helpers.test_clock") if doc["status"] == "advancing"]
    for clock_id in stopped:
        run_clock(dispatcher.store, dispatcher.world, clock_id)


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    arguments = _arguments()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Store(arguments.state, fresh=arguments.fresh)
    faults = Faults()
    # The socket is bound first, so that the base URL is known even when the port was left to the system.
    server = make_server(
        arguments.host, arguments.port, lambda _environ, _start: [], threaded=True, request_handler=_Handler
    )
    base_url = f"http://{arguments.host}:{server.port}"
    dispatcher = Dispatcher(store=store, router=api, faults=faults, wall=_wall, base_url=base_url)
    deliverer = Deliverer(store, faults, arguments.retry_after)
    ticker = WallTicker(store, dispatcher.world, _wall)
    server.app = create_app(dispatcher)
    if arguments.webhook:
        _ensure_endpoint(dispatcher, arguments.webhook, arguments.webhook_secret)
    deliverer.start()
    ticker.start()
    threading.Thread(target=_resume_clocks, args=(dispatcher,), daemon=True).start()

    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"sandbox ready on {base_url} (state: {arguments.state})", flush=True)
    server.serve_forever(poll_interval=0.05)
    # The store stays open: a clock may be in mid-advance, and the file is as good without a close.
    ticker.stop()
    deliverer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
