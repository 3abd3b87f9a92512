"""One connection to the customer's PostgreSQL, and sessions written to it.

Owns the transactions: a page of sessions and how far it reaches are committed together, so an export that is cut off anywhere
goes on where it was and leaves no row twice. Nothing waits longer than PATIENCE_S for a server that is silent.
Must not ask the controller for anything. psycopg is loaded only where an export runs.
Source: PostgreSQL manual, "INSERT ... ON CONFLICT", "Error Codes"; psycopg 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from drivers.errors import DriverError, Misconfigured, Refused, Unreachable
from drivers.postgres import tables
from drivers.postgres.address import CREDENTIAL, Address, credential

PATIENCE_S = 30.0
CONNECT_S = 10
_LOCK = 0x6465706F74  # "depot": one of several exporters makes the tables

Session = Mapping[str, Any]


class Reached(NamedTuple):
    """How far an export of these books has come, and under which name."""

    depot: str
    revision: int


class Sink:
    """Made by `opened`. All methods raise DriverError with one line."""

    def __init__(self, where: str, connection: psycopg.AsyncConnection[Any]) -> None:
        self.where = where
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, address: Address) -> AsyncIterator[Sink]:
        """Connected, and the tables are there."""
        given = {"password": secret} if (secret := credential()) is not None else {}
        try:
            words = make_conninfo(
                **address.parameters,
                **given,
                connect_timeout=CONNECT_S,
                application_name="depot export",
                client_encoding="utf8",
            )
            # prepare_threshold: a pooler between us may not know what was prepared
            connection = await psycopg.AsyncConnection.connect(words, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise _not_connected(address.where, error) from None
        try:
            sink = cls(address.where, connection)
            await sink._prepare()
            yield sink
        finally:
            await connection.close()

    async def reached(self, books: str) -> Reached | None:
        """None: nothing of these books is there yet."""
        async with self._patiently():
            return await self._reached(books)

    async def put(
        self, books: str, depot: str, sessions: Sequence[Session], before: int | None, revision: int
    ) -> None:
        """Stores them, and that all changes up to `revision` are there, if `before` is still how far the export had come
        (None: nothing of it was there)."""
        rows = [tables.row(books, depot, session) for session in sessions]
        async with self._patiently(), self._connection.transaction():
            found = await self._reached(books, " FOR UPDATE")
            if (None if found is None else found.revision) != before:
                raise Refused(f"{self.where}: another export of this depot runs; leave it to that one")
            async with self._connection.cursor() as cursor:
                await cursor.executemany(tables.PUT_SESSION, rows)
                await cursor.execute(tables.PUT_EXPORT, (books, depot, revision))

    async def _reached(self, books: str, lock: str = "") -> Reached | None:
        query = f"SELECT depot, revision FROM depot.exports WHERE books = %s{lock}"
        found = await (await self._connection.execute(query, (books,))).fetchone()
        return None if found is None else Reached(*found)

    async def _prepare(self) -> None:
        """Makes the tables, or brings those of an older version up to date."""
        async with self._patiently("make"):
            if await self._version() == tables.VERSION:
                return
            async with self._connection.transaction():
                await self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                for number in range(await self._version() + 1, tables.VERSION + 1):
                    await self._connection.execute(tables.step_to(number))

    async def _version(self) -> int:
        # not to_regclass(): it may answer from a cache what was so before we waited for the lock
        look = "SELECT 1 FROM pg_tables WHERE schemaname = 'depot' AND tablename = 'version'"
        if await (await self._connection.execute(look)).fetchone() is None:
            return 0
        found = await (await self._connection.execute("SELECT number FROM depot.version")).fetchone()
        version: int = 0 if found is None else found[0]
        if version > tables.VERSION:
            raise Misconfigured(
                f"{self.where}: its tables are of version {version}, this software knows {tables.VERSION}; update it"
            )
        return version

    @asynccontextmanager
    async def _patiently(self, doing: str = "write") -> AsyncIterator[None]:
        with _translated(self.where, doing):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    yield
            except TimeoutError:
                raise Unreachable(f"{self.where}: no answer within {PATIENCE_S:g} s; run it again") from None


@contextmanager
def _translated(where: str, doing: str) -> Iterator[None]:
    try:
        yield
    except errors.InsufficientPrivilege as error:
        right = "make tables" if doing == "make" else "write its tables"
        raise Misconfigured(
            f"{where}: this user may not {right} ({_line(error)}); "
            "let the database's owner run what `depot export --sql` prints, and grant the rights at its end"
        ) from None
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
        raise Misconfigured(f"{where}: its tables are not ours: {_line(error)}") from None
    except errors.ReadOnlySqlTransaction:
        raise Refused(f"{where}: is read-only (a standby?); name the primary") from None
    except (errors.DiskFull, errors.OutOfMemory) as error:
        raise Unreachable(f"{where}: {_line(error)}; run it again once that is mended") from None
    except psycopg.OperationalError as error:
        raise Unreachable(f"{where}: the connection was lost ({_line(error)}); run it again") from None
    except psycopg.Error as error:
        raise Refused(f"{where}: {_line(error)}") from None


# what the server or libpq says at the door, and what helps; a server may say it in another language
_DOOR = (
    ("no password supplied", f"give one in PGPASSFILE, PGPASSWORD or the credential {CREDENTIAL}"),
    ("password authentication failed", f"check the user, and PGPASSFILE, PGPASSWORD or the credential {CREDENTIAL}"),
    ("does not support SSL", "the server has no TLS: turn it on there, or add ?sslmode=disable on a network you trust"),
    ("certificate verify failed", "its certificate is not trusted: add ?sslrootcert=FILE of the CA that signed it"),
    ("does not match host name", "its certificate is for another name: use that name in the URL"),
    ("no pg_hba.conf entry", "its pg_hba.conf lets this user, address or way of connecting not in"),
    ("no encryption", "its pg_hba.conf wants TLS: add ?sslmode=require or verify-full"),
    ("root certificate file", "check sslrootcert"),
    ("does not exist", "create it, or check the URL"),
    ("could not translate host name", "check the name, and the network's DNS"),
    ("Connection refused", "does PostgreSQL listen there?"),
    ("timeout expired", "does PostgreSQL listen there, and is no firewall between?"),
)  # fmt: skip
_LATER = (
    "Connection refused",
    "timeout expired",
    "could not translate",
    "starting up",
    "shutting down",
    "too many",
)


def _not_connected(where: str, error: psycopg.Error) -> DriverError:
    said = _line(error)
    hint = next((f"; {text}" for words, text in _DOOR if words in said), "")
    kind = Unreachable if any(words in said for words in _LATER) else Misconfigured
    return kind(f"{where}: {said}{hint}")


def _line(error: psycopg.Error) -> str:
    """The last thing that was said, on one line: earlier ones are of addresses tried before."""
    said = error.diag.message_primary or str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = next((line for line in lines if "failed:" in line), lines[0] if lines else type(error).__name__)
    return last.rpartition("failed: ")[2].removeprefix("FATAL:").strip().rstrip(".")
