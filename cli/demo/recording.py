"""The recorded file: one POST to the usage door a line, with the answer that it must get."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

PostKind = Literal["batch", "single", "broken", "repeat", "resend"]


class Post(msgspec.Struct, frozen=True):
    """One POST. `body` goes over the wire as it stands in the file.

    kind: `batch` and `single` carry usage; `broken` must be refused at `field` of its event 1;
    `repeat` says an earlier POST again under the same idempotency key; `resend` under a new key.
    """

    organization: str
    stop_at: datetime
    key: str
    kind: PostKind
    status: int
    events: int
    body: msgspec.Raw
    field: str | None = None


def write_posts(path: Path, posts: Iterable[Post]) -> int:
    """Write the posts, one JSON line each; returns how many."""
    encoder = msgspec.json.Encoder()
    count = 0
    with path.open("wb") as file:
        for post in posts:
            file.write(encoder.encode(post))
            file.write(b"\n")
            count += 1
    return count


def read_posts(path: Path) -> dict[tuple[str, datetime], list[Post]]:
    """The posts of each organization and stop, in the sequence of the file."""
    decoder = msgspec.json.Decoder(Post)
    posts: dict[tuple[str, datetime], list[Post]] = {}
    with path.open("rb") as file:
        for line in file:
            # A copy: the decoded `body` is a view that would keep the whole line alive otherwise.
            post = decoder.decode(line)
            posts.setdefault((post.organization, post.stop_at), []).append(post)
    return posts
