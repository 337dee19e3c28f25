"""`Idempotency-Key`: a repeated POST gets the first answer, the same key with another body a conflict."""

import hashlib
from collections.abc import Callable
from datetime import timedelta

import msgspec

from billing.errors import BillingError, Conflict
from billing.metering import FieldError
from models import credentials
from models.ops import IdempotentAnswer
from tasks.context import Context
from web.calls import Answer
from web.problems import PROBLEM_TYPE, InvalidFields, kind_of, told

MAX_KEY = 255
# A process that died under a request leaves its claim: after this long a repeat may try again.
ABANDONED_AFTER = timedelta(minutes=2)


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
    context: Context, principal: str, key: str, digest: str, give: Callable[[], Answer]
) -> Answer:
    """The kept answer of this key, or the one that `give` gives now, kept.

    Refusals are kept as answers; what is our failure, or passes by itself (5xx), is not.
    Raises Conflict for a key that came with another request, or whose first request is under way.
    """
    kept = _claim(context, principal, key, digest)
    if kept is not None:
        return kept
    try:
        answer = give()
    except BillingError as refusal:
        if kind_of(refusal).status >= 500:
            _forget(context, principal, key, digest)
        else:
            kind, content = told(refusal)
            _keep(context, principal, key, digest, Answer(content, kind.status, content_type=PROBLEM_TYPE))
        raise
    except Exception:
        _forget(context, principal, key, digest)
        raise
    _keep(context, principal, key, digest, answer)
    return answer


def _claim(context: Context, principal: str, key: str, digest: str) -> Answer | None:
    with context.system() as unit:
        first = credentials.claim_answer(unit.session, principal, key, digest)
        if first is None:
            return None
        if first.request_digest != digest:
            raise Conflict("this key was used for another request", field="Idempotency-Key")
        if first.status is not None:
            return _replay(first)
        if unit.now - first.created_at < ABANDONED_AFTER:
            raise Conflict("the first request with this key is under way", field="Idempotency-Key")
        first.created_at = unit.now
    return None


def _replay(first: IdempotentAnswer) -> Answer:
    assert first.status is not None and first.body is not None
    return Answer(
        first.body["text"].encode(),
        first.status,
        {"Idempotent-Replayed": "true"},
        content_type=first.body["content_type"],
    )


def _keep(context: Context, principal: str, key: str, digest: str, answer: Answer) -> None:
    with context.system() as unit:
        row = credentials.own_claim(unit.session, principal, key, digest)
        if row is not None:
            row.status = answer.status
            row.body = {
                # As text: a JSON column would give the fields back in another sequence.
                "text": msgspec.json.encode(answer.body if answer.kept is None else answer.kept).decode(),
                "content_type": answer.content_type,
            }


def _forget(context: Context, principal: str, key: str, digest: str) -> None:
    with context.system() as unit:
        row = credentials.own_claim(unit.session, principal, key, digest)
        if row is not None:
            unit.session.delete(row)
