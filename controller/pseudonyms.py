"""What stands in the place of an id token where people are not to be known: a hash that only this box can make.

Owns the key of it, 32 random bytes in the state folder that no backup of the books contains: whoever gets hold of exported
sessions, or of the books after a token was forgotten, cannot try out tokens until one fits (they are short). The same token
gives the same alias for ever, so that sums by token hold. A box that is replaced needs the key file too, or its aliases
change.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from controller.migrations import LedgerError

KEY = "token-key"
KEY_BYTES = 32
MARK = "#"  # before an alias
LENGTH = 20
GLOB = MARK + "[0-9a-f]" * LENGTH  # an alias, for SQLite


class Pseudonyms:
    """The key is made when it is asked for first."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEY
        self._key: bytes | None = None

    async def ready(self) -> None:
        """Raises LedgerError where the key can be neither read nor made. Before the first `alias`."""
        if self._key is None:
            self._key = await asyncio.to_thread(read_key, self._path)

    def alias(self, token: str | None) -> str | None:
        """Letters count the same, large or small, as OCPP has it. What is an alias stays as it is."""
        if token is None or is_alias(token):
            return token
        assert self._key is not None, "ready() comes first"
        return (
            MARK
            + hmac.new(self._key, token.casefold().encode("utf-8", "replace"), sha256).hexdigest()[:LENGTH]
        )


def is_alias(token: str) -> bool:
    return len(token) == 1 + LENGTH and token[0] == MARK and set(token[1:]) <= set("0123456789abcdef")


def read_key(path: Path) -> bytes:
    """Raises LedgerError."""
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}; the controller's user must own this folder") from None
    if len(key) != KEY_BYTES:
        text = (
            f"{path}: {KEY_BYTES} bytes are expected, it has {len(key)}; put the file of a copy in its place"
        )
        raise LedgerError(f"{text}, or remove it: aliases of id tokens change then")
    return key


def _make(path: Path) -> None:
    """Whole or not at all: half a key would be another one after the next start."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    part.rename(path)
