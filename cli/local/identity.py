"""Root's duties: Postgres refuses to run as root, so find a user for it and places it can read."""

import os
import pwd
import shutil
import stat
from hashlib import sha256
from pathlib import Path

from cli.local.errors import StackError
from cli.local.process import Identity

# Not /tmp: it may be emptied while we run, and on some machines it is memory.
_SHARED = Path("/var/tmp")  # noqa: S108 - `_own_folder` refuses what somebody else planted


def unprivileged() -> Identity | None:
    """Whom to run servers as that refuse root: None (ourselves) unless we are root."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(65534, 65534)
    return Identity(nobody.pw_uid, nobody.pw_gid)


def can_reach(path: Path, identity: Identity) -> bool:
    """Whether `identity` may enter every folder on the way to `path`, and `path` itself if it is one."""
    resolved = path.resolve()
    on_the_way = [*resolved.parents, *([resolved] if resolved.is_dir() else [])]
    return all(_may_enter(folder, identity) for folder in on_the_way)


def _may_enter(folder: Path, identity: Identity) -> bool:
    status = folder.stat()
    if status.st_uid == identity.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == identity.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def reachable_home(wanted: Path, identity: Identity | None, state_id: str) -> Path:
    """A folder for a server's files: `wanted`, or its stand-in when `identity` cannot reach that.

    A checkout below /root (mode 0700) is the usual case. The stand-in's name comes from the wanted
    path, so the next start finds it again; one left by a state directory that has been deleted since
    (its passwords are gone with it) is known by another `state_id` and emptied.
    """
    wanted.mkdir(parents=True, exist_ok=True)
    if identity is None:
        return wanted
    wanted.chmod(0o711)
    wanted.parent.chmod(0o711)
    if can_reach(wanted, identity):
        return wanted
    _sweep()
    home = _own_folder(stand_in(wanted))
    mark = home / "state_id"
    if not mark.exists() or mark.read_text() != state_id:
        shutil.rmtree(home)
        _own_folder(home)
        (home / "for").write_text(str(wanted))
        mark.write_text(state_id)
    return home


def _sweep() -> None:
    """Remove the stand-ins of state directories that somebody has deleted."""
    for note in _SHARED.glob("dunlin-*/for"):
        if note.stat().st_uid == os.geteuid() and not Path(note.read_text()).exists():
            shutil.rmtree(note.parent, ignore_errors=True)


def stand_in(wanted: Path) -> Path:
    """Where `reachable_home` puts what cannot be at `wanted`."""
    return _SHARED / f"dunlin-{sha256(str(wanted.resolve()).encode()).hexdigest()[:12]}"


def readable_tree(tree: Path, siblings: tuple[Path, ...], name: str, identity: Identity | None) -> Path:
    """`tree`, or a copy of it (beside copies of `siblings`) when `identity` cannot reach it.

    The copy is made under another name and renamed when complete, so an interrupted one is not used.
    """
    if identity is None or can_reach(tree, identity):
        return tree
    copies = _own_folder(_SHARED / f"dunlin-{name}")
    if not (copies / "complete").exists():
        for original in (tree, *siblings):
            shutil.rmtree(copies / original.name, ignore_errors=True)
            shutil.copytree(original, copies / original.name, symlinks=True)
        (copies / "complete").touch()
    return copies / tree.name


def _own_folder(folder: Path) -> Path:
    """Make a folder that others may enter; refuse one that somebody else planted under that name."""
    folder.mkdir(mode=0o755, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise StackError(f"{folder} exists and is not ours alone; remove it and start again")
    folder.chmod(0o755)  # mkdir's mode went through the umask.
    return folder


def give(path: Path, identity: Identity | None) -> None:
    """Make `identity` the owner of this one file or folder."""
    if identity is not None:
        os.chown(path, identity.uid, identity.gid)
