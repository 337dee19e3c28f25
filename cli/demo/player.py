"""One organization's quarter: it signs up, is used, and its clock is moved stop by stop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cli.demo.api import Answer, Api, patiently
from cli.demo.cast import GOOD_CARD, PRODUCT, START, Act, ActKind, Member
from cli.demo.progress import Board
from cli.demo.recording import Post

# Everything due on the way is done before a clock arrives, so this is for a machine under load.
_ADVANCE_PATIENCE_S = 150.0
_ACCESS_PATIENCE_S = 20.0
_TRACK = "/api/billing/usage/track/"


class Halted(Exception):
    """A clock or a subscription did not come to where it had to; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What all players share: where the API is, the keys, the recorded posts, the board."""

    base_url: str
    admin_key: str
    product_key: str
    posts: Mapping[tuple[str, datetime], Sequence[Post]]
    board: Board


@dataclass(slots=True)
class Played:
    """What happened to one organization, as the API told it."""

    member: Member
    organization_id: str = ""
    subscription_ids: list[str] = field(default_factory=list)
    accepted: int = 0
    refused_posts: int = 0
    repeated_posts: int = 0
    accesses: list[tuple[datetime, str, str]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)


class Player:
    """Plays one member; run `play` in a thread of its own."""

    def __init__(self, member: Member, stage: Stage) -> None:
        self.played = Played(member)
        self._member = member
        self._stage = stage
        self._admin = Api(stage.base_url, stage.admin_key)
        self._product = Api(stage.base_url, stage.product_key)
        self._own = self._admin
        self._clock = ""
        self._batches: dict[str, str] = {}

    def play(self) -> Played:
        """Sign up, then stop by stop: move the clock, post the usage up to there, act.

        Raises ApiRefusal, Halted, ConnectionError.
        """
        self._sign_up()
        self._act(START)
        for stop in self._member.stops():
            self._advance(stop)
            for post in self._stage.posts.get((self._member.slug, stop), ()):
                self._post(post)
            self._act(stop)
        return self.played

    # -- signing up ----------------------------------------------------------------------------------

    def _sign_up(self) -> None:
        member = self._member
        clock = self._admin.post(
            "/api/billing/test_clocks/", {"name": member.name, "at": START}, f"clock:{member.slug}"
        )
        self._clock = f"/api/billing/test_clocks/{clock['id']}/"
        organization = self._admin.post(
            "/api/billing/organizations/",
            {
                "slug": member.slug,
                "name": member.name,
                "email": member.email,
                "currency": member.currency,
                "address": {"country": member.country},
                "tax_rate": member.tax_rate,
                "test_clock": clock["id"],
            },
            f"organization:{member.slug}",
        )
        self.played.organization_id = organization["id"]
        self._own = Api(self._stage.base_url, self._new_key())
        self._use_card(GOOD_CARD, START)
        for number, purchase in enumerate(member.purchases):
            self._subscribe(number, {
                "plan": purchase.plan,
                "bundle": purchase.bundle,
                "quantity": purchase.quantity,
                "trial_days": purchase.trial_days,
                "currency": member.currency,
                "interval": "month",
            })  # fmt: skip
        self._tell(START, member.story)

    def _new_key(self) -> str:
        """An organization's key. A repeat of the request does not show it again: then ask for another."""
        path = f"/api/billing/organizations/{self._member.slug}/keys/"
        issued = (
            self._admin.post(path, {"name": "demo"}, f"key:{self._member.slug}:{attempt}")["key"]
            for attempt in range(3)
        )
        return str(next(filter(None, issued)))

    def _subscribe(self, number: int, terms: dict[str, Any]) -> None:
        path = "/api/billing/subscriptions/"
        made = self._own.post(path, terms, f"subscribe:{self._member.slug}:{number}")
        self.played.subscription_ids.append(made["id"])
        seen = patiently(
            lambda: self._own.get(f"{path}{made['id']}/"), lambda now: now["status"] in ("active", "trialing")
        )
        if seen["status"] not in ("active", "trialing"):
            raise Halted(f"the subscription stays {seen['status']}")

    # -- a stop ------------------------------------------------------------------------------------------

    def _advance(self, stop: datetime) -> None:
        self._admin.post(
            self._clock + "advance/", {"to": stop}, f"advance:{self._member.slug}:{stop.isoformat()}"
        )
        clock = patiently(
            lambda: self._admin.get(self._clock), lambda now: now["target"] is None, _ADVANCE_PATIENCE_S
        )
        if clock["target"] is not None:
            raise Halted(f"its clock stands at {clock['at']}: {clock['last_error'] or 'nothing moves it'}")
        self._stage.board.reached(self._member.slug, stop)

    def _post(self, post: Post) -> None:
        answer = self._product.send("POST", _TRACK, bytes(post.body), post.key)
        surprise = _surprise(post, answer, self._batches.get(post.key))
        if surprise:
            self.played.surprises.append(f"{post.key}: {surprise}")
        elif post.kind == "broken":
            self.played.refused_posts += 1
        elif post.kind == "repeat":
            self.played.repeated_posts += 1
        else:
            self._batches[post.key] = answer.content["batch_id"]
            self.played.accepted += answer.content["accepted"]
            self._stage.board.posted(answer.content["accepted"])

    # -- acts --------------------------------------------------------------------------------------------

    def _act(self, stop: datetime) -> None:
        for act in self._member.acts:
            if act.at == stop:
                _DEEDS[act.kind](self, act)

    def _use_card(self, card: str, at: datetime) -> None:
        path = f"/api/billing/organizations/{self._member.slug}/payment_methods/"
        self._own.post(path, {"payment_method": card}, f"card:{self._member.slug}:{at.isoformat()}")

    def _change_card(self, act: Act) -> None:
        self._use_card(act.value, act.at)
        self._tell(act.at, "a new default card" if act.value == GOOD_CARD else "the default card goes bad")

    def _cancel(self, act: Act) -> None:
        path = f"/api/billing/subscriptions/{self.played.subscription_ids[0]}/cancel/"
        self._own.post(path, {"at_period_end": False}, f"cancel:{self._member.slug}")
        self._tell(act.at, "cancels, at once")

    def _expect_access(self, act: Act) -> None:
        path = f"/api/billing/access/{self._member.slug}/{PRODUCT}/"
        seen = patiently(
            lambda: str(self._product.get(path)["access"]), lambda now: now == act.value, _ACCESS_PATIENCE_S
        )
        before = self.played.accesses[-1][1] if self.played.accesses else None
        self.played.accesses.append((act.at, seen, act.value))
        if seen != before:
            self._tell(act.at, f"access to {PRODUCT} is {seen}")

    def _tell(self, at: datetime, sentence: str) -> None:
        self._stage.board.told(self._member.slug, at, sentence)


_DEEDS = {
    ActKind.use_card: Player._change_card,
    ActKind.expect_access: Player._expect_access,
    ActKind.cancel: Player._cancel,
}


def _surprise(post: Post, answer: Answer, first_batch: str | None) -> str | None:
    """What is not as it must be in the answer to a post; None when it is."""
    if answer.status != post.status:
        return f"answered {answer.status} instead of {post.status}: {answer.content}"
    if post.kind == "broken":
        named = [(error.get("index"), error.get("field")) for error in answer.content.get("errors", ())]
        return (
            None if named == [(1, post.field)] else f"the refusal names {named}, not event 1's {post.field}"
        )
    if answer.content["accepted"] != post.events:
        return f"accepted {answer.content['accepted']} of {post.events}"
    if post.kind == "repeat" and answer.content["batch_id"] != first_batch:
        return "a repeat was answered as a new batch"
    return None
