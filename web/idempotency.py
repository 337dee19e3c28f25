"""`Idempotency-Key`: a repeated request gets the first answer, the same key with another body a conflict.

A request that came to no answer (a failure of ours or of Stripe's, a process that died) leaves its id behind.
Its repeat goes on under the same one: what is made carries it, and Stripe is told under it, so that what was
done already is found and done no second time.
"""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import msgspec

from billing.errors import BillingError, Conflict, UnderWay
from billing.metering import FieldError
from models import credentials
from models.ops import IdempotentAnswer
from tasks.context import Context
from web.calls import Answer
from web.problems import PROBLEM_TYPE, InvalidFields, kind_of, told

MAX_KEY = 255
# A process that died under a request leaves its claim: after this long a repeat may go on. Should the first
# one live after all, both do the same thing, one after the other. Shorter than a client's patience.
ABANDONED_AFTER = timedelta(seconds=30)


def check_key(key: str) -> str:
    """The key, when it is 1 to 255 visible ASCII characters. Raises InvalidFields."""
    if not 0 < len(key) <= MAX_KEY or not all("!" <= letter <= "~" for letter in key):
        raise InvalidFields(
            [FieldError("Idempotency-Key", f"must be 1 to {MAX_KEY} visible ASCII characters")]
        )
    return key


def digest_of(endpoint: str, raw: bytes) -> str:
    """What a repeat must have in common with the first: the endpoint and the body, byte for byte."""
    return hashlib.sha256(endpoint.encode() + b"\0" + raw).hexdigest()


def answered_once(
    context: Context, principal: str, key: str, digest: str, give: Callable[[UUID], Answer]
) -> Answer:
    """The kept answer of this key, or the one that `give` gives now to the intention of that id, kept.

    Refusals are kept as answers; what is our failure (5xx), or passes by itself, is not.
    Raises Conflict for a key that came with another request, UnderWay while the first one is worked on.
    """
    claimed = _claim(context, principal, key, digest)
    if isinstance(claimed, Answer):
        return claimed
    try:
        answer = give(claimed)
    except BillingError as refusal:
        if kind_of(refusal).status >= 500 or isinstance(refusal, UnderWay):
            _release(context, claimed)
        else:
            kind, content = told(refusal)
            _keep(context, claimed, Answer(content, kind.status, content_type=PROBLEM_TYPE))
        raise
    except Exception:
        _release(context, claimed)
        raise
    _keep(context, claimed, answer)
    return answer


def _claim(context: Context, principal: str, key: str, digest: str) -> Answer | UUID:
    with context.system() as unit:
        first = credentials.keyed_request(unit.session, principal, key, digest)
        if first.request_digest != digest:
            raise Conflict("this key was used for another request", field="Idempotency-Key")
        if first.status is not None:
            return _replay(first)
        if first.claimed_until_at is not None and unit.now < first.claimed_until_at:
            raise UnderWay("the first request with this key is under way", field="Idempotency-Key")
        first.claimed_until_at = unit.now + ABANDONED_AFTER
        return first.id


def _replay(first: IdempotentAnswer) -> Answer:
    assert first.status is not None and first.body is not None
    return Answer(
        first.body["text"].encode(),
        first.status,
        {"Idempotent-Replayed": "true"},
        content_type=first.body["content_type"],
    )


def _keep(context: Context, request_id: UUID, answer: Answer) -> None:
    with context.system() as unit:
        row = credentials.unanswered(unit.session, request_id)
        if row is not None:
            row.status = answer.status
            row.body = {
                # As text: a JSON column would give the fields back in another sequence.
                "text": msgspec.json.encode(answer.body if answer.kept is None else answer.kept).decode(),
                "content_type": answer.content_type,
            }


def _release(context: Context, request_id: UUID) -> None:
    """Nobody works on it any more: a repeat may go on at once."""
    with context.system() as unit:
        row = credentials.unanswered(unit.session, request_id)
        if row is not None:
            row.claimed_until_at = None
