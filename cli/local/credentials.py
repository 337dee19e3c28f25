"""The generated secrets of one state directory, kept so that the next start can use its files."""

import json
import os
import secrets
from pathlib import Path

# Hexadecimal or URL-safe, so that they stand in a URL and in a server's settings without quoting.
_GENERATED = (
    "state_id",
    "postgres_superuser",
    "postgres_owner",
    "postgres_app",
    "postgres_auditor",
    "valkey_admin",
    "valkey_app",
    "secret_key",
    "key_pepper",
    "flower_password",
    "admin_password",
    "stripe_api_key",
    "stripe_webhook_secret",
)
_TYPED = frozenset({"flower_password", "admin_password"})
_PREFIXES = {"stripe_api_key": "sk_test_local", "stripe_webhook_secret": "whsec_"}


class Credentials:
    """Name -> secret, in a file that only its owner can read; missing ones are made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        missing = [name for name in _GENERATED if name not in self._values]
        for name in missing:
            # The ones that a person may have to type are half as long, and long enough for loopback.
            length = 8 if name in _TYPED else 16
            self._values[name] = _PREFIXES.get(name, "") + secrets.token_hex(length)
        if missing:
            self._save()

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def get(self, name: str) -> str | None:
        """The secret, or None when nobody has given it yet."""
        return self._values.get(name)

    def update(self, **values: str) -> None:
        """Keep secrets that somebody else made."""
        if values.items() - self._values.items():
            self._values.update(values)
            self._save()

    def _save(self) -> None:
        # Written aside and renamed: a start killed here must not lose the passwords of existing files.
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with fresh.open("w") as file:
            json.dump(self._values, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)
