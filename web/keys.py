"""Keys of an organization: issue, list, rotate, revoke."""

from datetime import timedelta
from uuid import UUID

import msgspec

from billing.errors import NotFound
from models import credentials
from models.ops import ApiKey
from tasks import keys
from web import bodies, shapes
from web.calls import ADMIN, ORGANIZATION, Answer, Call, Route

_MISSING = "no such key"


def issue(call: Call) -> Answer:
    body: bodies.NewKey = call.body
    terms = keys.KeyTerms(
        kind="organization",
        name=body.name,
        organization_id=call.organization_id(call.path["id"]),
        scopes=tuple(body.scopes or keys.ALL_SCOPES),
        expires_at=body.expires_at,
    )
    return _shown_once(*keys.issue_terms(call.context, terms))


def listed(call: Call) -> Answer:
    organization_id = call.organization_id(call.path["id"])
    with call.context.database.system() as session:
        found = credentials.listed_keys(
            session, call.context.wall(), organization_id=organization_id, dead_too=True
        )
    return Answer(shapes.Keys(items=[_key(each.key) for each in found]))


def rotate(call: Call) -> Answer:
    body: bodies.Rotation = call.body
    return _shown_once(*keys.rotate(call.context, _own_key(call), timedelta(seconds=body.overlap_s)))


def revoke(call: Call) -> Answer:
    keys.revoke(call.context, _own_key(call))
    return Answer(None, status=204)


def _own_key(call: Call) -> UUID:
    """The key that the path names, if it is of the organization that the path names. Raises NotFound."""
    organization_id = call.organization_id(call.path["id"])
    key_id = call.path_id("key", _MISSING)
    with call.context.database.system() as session:
        found = session.get(ApiKey, key_id)
    if found is None or found.organization_id != organization_id:
        raise NotFound(_MISSING)
    return key_id


def _shown_once(row: ApiKey, text: str) -> Answer:
    shown = _key(row)
    return Answer(
        msgspec.structs.replace(shown, key=text), status=201, kept=msgspec.structs.replace(shown, key=None)
    )


def _key(row: ApiKey) -> shapes.Key:
    return shapes.Key(
        id=row.id,
        kind=row.kind,
        name=row.name,
        scopes=row.scopes,
        last_four=row.last_four,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


_ALL = "/api/billing/organizations/<id>/keys/"
_ONE = _ALL + "<key>/"

ROUTES = (
    Route(
        method="POST",
        path=_ALL,
        view=issue,
        access=ADMIN,
        summary="Issue a key of the organization; shown this once. A third of one name retires the oldest",
        tag="Keys",
        body=bodies.NewKey,
        answer=shapes.Key,
        status=201,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ALL,
        view=listed,
        access=ORGANIZATION,
        summary="The organization's keys, newest first: scopes, expiry, last use; never their texts",
        tag="Keys",
        answer=shapes.Keys,
        refusals=(404,),
    ),
    Route(
        method="POST",
        path=_ONE + "rotate/",
        view=rotate,
        access=ADMIN,
        summary="Replace a key by one of the same terms, shown this once; the old one ends after the overlap",
        tag="Keys",
        body=bodies.Rotation,
        answer=shapes.Key,
        status=201,
        refusals=(404, 409),
    ),
    Route(
        method="DELETE",
        path=_ONE,
        view=revoke,
        access=ADMIN,
        summary="End a key now",
        tag="Keys",
        status=204,
        refusals=(404,),
    ),
)
