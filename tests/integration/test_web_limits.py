"""Limits: a key and an address may ask so much and no more, over all processes; usage needs no Redis."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tasks.users import create_user
from tests.integration.web_world import WebWorld, web_world
from web.factory import create_app
from web.ratelimit import SIGN_IN, WITHOUT_KEY

INVOICES, USAGE, LOGIN = "/api/billing/invoices/", "/api/billing/usage/track/", "/admin/login/"
EMAIL, PASSWORD = "ada@dunlin.example", "correct horse battery"
MOST = 40


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_limits") as made:
        create_user(made.context, EMAIL, PASSWORD)
        yield made


@pytest.fixture(autouse=True)
def next_window(world: WebWorld) -> None:
    """Each story begins in a window of its own."""
    world.wall.passes(timedelta(seconds=SIGN_IN.window_s))


def process(world: WebWorld, *, proxies: int = 0, **settings: Any) -> Flask:
    """A web process beside the world's own, with other settings."""
    changed = replace(world.context.settings, **settings)
    return create_app(replace(world.context, settings=changed), proxies=proxies)


def ask(app: Flask, bearer: str, **options: Any) -> TestResponse:
    return app.test_client().get(INVOICES, headers={"Authorization": f"Bearer {bearer}"}, **options)


def sign_in(app: Flask, email: str, password: str, **options: Any) -> TestResponse:
    browser = app.test_client()
    page = browser.get(LOGIN).get_data(as_text=True)
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token is not None
    form = {"email": email, "password": password, "token": token[1]}
    return browser.post(LOGIN, data=form, **options)


def test_a_key_is_told_when_it_may_ask_again(world: WebWorld) -> None:
    app = process(world, api_calls_per_minute=MOST)
    answers = [ask(app, world.keys["acme"]) for _ in range(MOST + 1)]
    assert [answer.status_code for answer in answers] == [200] * MOST + [429]
    wait_s = int(answers[-1].headers["Retry-After"])
    assert 0 < wait_s <= 60
    assert answers[-1].mimetype == "application/problem+json"

    assert ask(app, world.keys["globex"]).status_code == 200
    world.wall.passes(timedelta(seconds=wait_s))
    assert ask(app, world.keys["acme"]).status_code == 200


def test_processes_count_together(world: WebWorld) -> None:
    apps = [process(world, api_calls_per_minute=MOST) for _ in range(2)]
    passed = [ask(apps[turn % 2], world.keys["acme"]).status_code for turn in range(2 * MOST)].count(200)
    assert passed == MOST


def test_no_limit_is_no_limit(world: WebWorld) -> None:
    app = process(world, api_calls_per_minute=0)
    assert {ask(app, world.keys["acme"]).status_code for _ in range(MOST)} == {200}


def test_usage_has_a_limit_of_its_own(world: WebWorld) -> None:
    app = process(world, api_calls_per_minute=1, usage_posts_per_minute=3)
    headers = {"Authorization": f"Bearer {world.keys['product']}"}
    posts = [app.test_client().post(USAGE, json={}, headers=headers).status_code for _ in range(4)]
    assert posts == [422, 422, 422, 429]


def test_guessing_keys_is_limited_by_address(world: WebWorld) -> None:
    app = process(world)
    guesses = [ask(app, "dk_test_wrong").status_code for _ in range(WITHOUT_KEY.most + 1)]
    assert (set(guesses[:-1]), guesses[-1]) == ({401}, 429)
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert ask(app, "dk_test_wrong", environ_overrides=elsewhere).status_code == 401
    # Who has a key does not suffer from a neighbour who has none.
    assert ask(app, world.keys["acme"]).status_code == 200


def test_guessing_passwords_is_limited_by_address(world: WebWorld) -> None:
    app = process(world)
    for number in range(SIGN_IN.most):
        assert sign_in(app, f"person{number}@dunlin.example", "a wrong password").status_code == 401
    refused = sign_in(app, EMAIL, PASSWORD)
    wait_s = int(refused.headers["Retry-After"])
    assert refused.status_code == 429 and 0 < wait_s <= SIGN_IN.window_s
    assert sign_in(app, EMAIL, PASSWORD, environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 302
    world.wall.passes(timedelta(seconds=wait_s))
    assert sign_in(app, EMAIL, PASSWORD).status_code == 302


def test_without_redis_the_api_goes_on_and_signing_in_does_not(world: WebWorld) -> None:
    app = process(world, redis_url="redis://127.0.0.1:1/0", api_calls_per_minute=1)
    assert [ask(app, world.keys["acme"]).status_code for _ in range(3)] == [200] * 3
    event = {
        "event_id": "uncounted",
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "timestamp": world.wall().isoformat(),
    }
    headers = {"Authorization": f"Bearer {world.keys['product']}"}
    assert app.test_client().post(USAGE, json=event, headers=headers).status_code == 202
    assert sign_in(app, EMAIL, PASSWORD).status_code == 503


def test_an_address_is_believed_of_our_own_proxies_alone(world: WebWorld) -> None:
    def guesses_from(app: Flask) -> set[int]:
        return {
            app.test_client()
            .get(INVOICES, headers={"Authorization": "Bearer x", "X-Forwarded-For": f"198.51.100.{n % 250}"})
            .status_code
            for n in range(WITHOUT_KEY.most + 1)
        }

    assert guesses_from(process(world)) == {401, 429}
    world.wall.passes(timedelta(seconds=60))
    assert guesses_from(process(world, proxies=1)) == {401}
