"""`depot export` from a running depot into a real PostgreSQL: the same rows, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import postgresql
import pytest
from small_depot import A1, DEADLINE_S, SmallDepot, beside, small_depot
from typed import Said, typed

from controller import backup
from controller.cli import main
from controller.core.commands import Entry, RecordSaved, SessionSaved
from drivers.errors import Refused, Unreachable
from drivers.postgres import sink, tables
from drivers.postgres.address import read
from drivers.postgres.sink import Sink

MONDAY = datetime(2026, 11, 16, 18, 0, tzinfo=UTC)
PASSWORD = "a-secret-of-members"
pytestmark = postgresql.needed


def session(number: int, **more: Any) -> SessionSaved:
    began = MONDAY + timedelta(hours=number)
    known: dict[str, Any] = {
        "id": f"1-{number}", "evse": A1, "transaction": f"t{number}", "token": "04A2B3C4", "vehicle": None,
        "started": began, "ended": began + timedelta(minutes=40), "energy_wh": 1000 + number, "register_start_wh": 5,
        "register_wh": 1005 + number, "stop_reason": "Local", "marks": ("offline",), "cost_micro": 250_000 + number,
        "currency": "EUR",
    }  # fmt: skip
    return SessionSaved(**{**known, **more})


class Box:
    """A depot that lives on its own, for commands to talk to."""

    def __init__(self, folder: Path, depot: SmallDepot, loop: asyncio.AbstractEventLoop) -> None:
        self.folder, self._depot, self._loop = folder, depot, loop
        self.socket = folder / "control.sock"

    def append(self, *entries: Entry) -> None:
        async def work() -> None:
            await self._depot.runtime.ledger.append(entries)

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(DEADLINE_S)

    def copy(self, path: Path) -> None:
        async def work() -> None:
            await backup.Backups(self._depot.storage, self._depot.clock).make(path)

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(DEADLINE_S)


@contextmanager
def box(folder: Path) -> Iterator[Box]:
    folder.mkdir(exist_ok=True)
    made: list[Box] = []

    async def serve(ready: threading.Event, over: threading.Event) -> None:
        async with small_depot(folder) as depot:
            made.append(Box(folder, depot, asyncio.get_running_loop()))
            ready.set()
            await asyncio.to_thread(over.wait)

    with beside(serve):
        yield made[0]


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgresql.Server]:
    with postgresql.server() as server:
        server.ask("postgres", "CREATE ROLE members")
        for user in ("member", "tlsonly"):
            server.ask("postgres", f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}' IN ROLE members")
        server.ask("postgres", "CREATE ROLE trusted LOGIN")
        yield server


@pytest.fixture
def server(cluster: postgresql.Server) -> Iterator[postgresql.Server]:
    """With an empty database `fleet` that `trusted` owns."""
    cluster.ask("postgres", "DROP DATABASE IF EXISTS fleet WITH (FORCE)")
    cluster.ask("postgres", "CREATE DATABASE fleet OWNER trusted")
    yield cluster


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Box]:
    with box(tmp_path / "a") as running:
        yield running


Command = Callable[..., Said]


@pytest.fixture
def export(
    server: postgresql.Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)

    def run(depot: Box, *more: str, to: str | None = None) -> Said:
        url = to or server.url("trusted", "fleet")
        said = typed(capsys, "export", "--to", url, "--socket", str(depot.socket), *more)
        assert len(said.err.splitlines()) <= 1
        return said

    return run


def rows(server: postgresql.Server, columns: str = "id", more: str = "") -> list[tuple[Any, ...]]:
    return server.ask("fleet", f"SELECT {columns} FROM depot.sessions {more} ORDER BY books, revision")


# --- what stands there --------------------------------------------------------------------------------------------


def test_a_row_says_what_the_books_say(depot: Box, export: Command, server: postgresql.Server) -> None:
    record = RecordSaved("r1", A1, "1-1", MONDAY, MONDAY + timedelta(hours=1), 1031, 30, 5, 1036)
    depot.append(session(1), record, session(2, ended=None, cost_micro=None, currency=None, token=None))
    code, out, _ = export(depot, "--json")
    told = json.loads(out)
    assert (code, told["sent"], told["depot"], told["again"]) == (0, 2, "Three posts", False)
    assert told["to"] == f"127.0.0.1:{server.port}/fleet" and len(told["books"]) == 16
    columns = (
        "id, depot, evse, transaction_id, vehicle, started, ended, energy_wh, register_wh, stop_reason, marks"
    )
    (first, second) = rows(server, columns)
    began = MONDAY + timedelta(hours=1)
    assert first == (
        "1-1", "Three posts", "A/1", "t1", None, began, began + timedelta(minutes=40), 1001, 1006, "Local", ["offline"],
    )  # fmt: skip
    assert second[6] is None, "it still runs"
    money = rows(server, "cost, currency, record_wh, gap_wh, token")
    assert money[0][:4] == (Decimal("0.250001"), "EUR", 1031, 30)
    assert money[1] == (None, None, None, None, None), "unknown is not 0"


def test_tokens_are_hashed_unless_an_operator_wants_them_plain(
    depot: Box, export: Command, server: postgresql.Server
) -> None:
    depot.append(session(1), session(2, token="FFFF"))
    export(depot)
    hashed = [token for (token,) in rows(server, "token")]
    assert len(set(hashed)) == 2 and not {"04A2B3C4", "FFFF"} & set(hashed)
    assert export(depot, "--again", "--plain-tokens")[0] == 0
    assert [token for (token,) in rows(server, "token")] == ["04A2B3C4", "FFFF"]


def test_only_what_changed_is_sent_and_no_row_comes_twice(
    depot: Box, export: Command, server: postgresql.Server
) -> None:
    depot.append(*(session(number) for number in range(5)))
    assert "5 sessions" in export(depot)[1]
    assert "nothing new" in export(depot)[1]
    depot.append(session(2, energy_wh=7777, marks=()), session(9))
    assert json.loads(export(depot, "--json")[1])["sent"] == 2
    assert rows(server, "id, energy_wh", "WHERE id = '1-2'") == [("1-2", 7777)]
    assert json.loads(export(depot, "--json", "--again")[1])["sent"] == 6
    assert len(rows(server)) == 6


def test_two_depots_of_one_name_share_a_database(
    depot: Box, export: Command, server: postgresql.Server, tmp_path: Path
) -> None:
    with box(tmp_path / "b") as other:
        depot.append(session(1))
        other.append(session(1, energy_wh=2), session(2))
        for each in (depot, other, depot, other):
            assert export(each)[0] == 0
        other.append(session(1, energy_wh=3))
        assert json.loads(export(other, "--json")[1])["sent"] == 1
    assert sorted(rows(server, "id, energy_wh")) == [("1-1", 3), ("1-1", 1001), ("1-2", 1002)]
    assert server.ask("fleet", "SELECT count(DISTINCT books) FROM depot.sessions") == [(2,)]


def test_what_stations_send_cannot_stop_it(depot: Box, export: Command, server: postgresql.Server) -> None:
    odd = "a\0b'; DROP TABLE depot.sessions; --\n\U0001f50c{%s}"
    depot.append(session(1, transaction=odd, stop_reason=odd, marks=(odd,)), session(2, energy_wh=2**40))
    assert export(depot)[0] == 0
    kept = odd.replace("\0", "\N{REPLACEMENT CHARACTER}")
    assert rows(server, "transaction_id, stop_reason, marks", "WHERE id = '1-1'") == [(kept, kept, [kept])]


def test_older_sessions_can_be_left_out(depot: Box, export: Command, server: postgresql.Server) -> None:
    depot.append(*(session(number) for number in range(4)), session(0, id="1-open", ended=None))
    told = json.loads(export(depot, "--json", "--since", "2026-11-16T20:30:00Z")[1])
    assert (told["sent"], told["left_out"]) == (3, 2)
    assert {id for (id,) in rows(server)} == {"1-2", "1-3", "1-open"}
    assert "nothing new" in export(depot)[1], "they stay out"
    export(depot, "--again")
    assert len(rows(server)) == 5


# --- what happens on the way ----------------------------------------------------------------------------------------


def test_killed_anywhere_it_goes_on(depot: Box, server: postgresql.Server) -> None:
    """Each run is killed as soon as it has stored one page more; what counts as reached is there, whole."""
    depot.append(*(session(number) for number in range(1_600)))
    url = server.url("trusted", "fleet")
    command = [sys.executable, "-m", "controller", "export", "--to", url, "--socket", str(depot.socket)]
    kills, reached = 0, 0
    while True:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if (now := _reached(server)) > reached:
                    reached = now
                    process.kill()
                time.sleep(0.002)
        there, upto = server.ask(
            "fleet", f"SELECT count(*), max(revision) FROM depot.sessions WHERE revision <= {reached}"
        )[0]
        assert upto == _reached(server), "what counts as reached is there"
        assert rows(server, "count(*)", f"WHERE revision > {upto} GROUP BY books, revision") == []
        if process.returncode == 0:
            break
        kills += 1
    assert kills >= 2 and there == 1_600
    assert rows(server, "id, energy_wh") == [(f"1-{number}", 1000 + number) for number in range(1_600)]


def _reached(server: postgresql.Server) -> int:
    if server.ask("fleet", "SELECT to_regclass('depot.exports')") == [(None,)]:
        return 0
    found = server.ask("fleet", "SELECT revision FROM depot.exports")
    return int(found[0][0]) if found else 0


def documents(*numbers: int) -> list[dict[str, Any]]:
    known = {"token": None, "vehicle": None, "ended": None, "register_start_wh": None, "register_wh": None,
             "stop_reason": None, "marks": [], "cost": None, "currency": None, "record_wh": None, "gap_wh": None}  # fmt: skip
    return [
        {**known, "id": f"1-{n}", "evse": "A/1", "transaction": "t", "started": "2026-11-16T18:00:00Z", "energy_wh": n,
         "revision": n}
        for n in numbers
    ]  # fmt: skip


async def test_a_server_that_goes_in_the_middle_costs_the_page_only(server: postgresql.Server) -> None:
    address = read(server.url("trusted", "fleet"))
    async with Sink.opened(address) as open_sink:
        await open_sink.put("books", "Depot", documents(1, 2), None, 2)
        server.stop()
        with pytest.raises(
            Unreachable, match=r"^127\.0\.0\.1:\d+/fleet: the connection was lost \(.+\); run it again$"
        ):
            await open_sink.put("books", "Depot", documents(3), 2, 3)
    with pytest.raises(Unreachable, match="Connection refused; does PostgreSQL listen there"):
        async with Sink.opened(address):
            pass
    server.start()
    async with Sink.opened(address) as open_sink:
        assert await open_sink.reached("books") == ("Depot", 2)
        await open_sink.put("books", "Depot", documents(2, 3), 2, 3)
    assert rows(server) == [("1-1",), ("1-2",), ("1-3",)]


async def test_a_session_cut_by_its_administrator(server: postgresql.Server) -> None:
    async with Sink.opened(read(server.url("trusted", "fleet"))) as open_sink:
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'depot export'"
        )
        assert server.ask("fleet", kill) == [(True,)]
        with pytest.raises(Unreachable, match="terminating connection due to administrator command"):
            await open_sink.put("books", "Depot", documents(1), None, 1)


async def test_a_silent_server_is_not_waited_for(
    server: postgresql.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "PATIENCE_S", 0.3)
    async with Sink.opened(read(server.url("trusted", "fleet"))) as open_sink:
        await open_sink.put("books", "Depot", documents(1), None, 1)
        (pid,) = server.ask(
            "fleet", "SELECT pid FROM pg_stat_activity WHERE application_name = 'depot export'"
        )[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable, match=r"no answer within 0\.3 s; run it again"):
                await open_sink.put("books", "Depot", documents(2), 1, 2)
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_of_two_at_once_one_leaves_it_to_the_other(server: postgresql.Server) -> None:
    address = read(server.url("trusted", "fleet"))
    async with Sink.opened(address) as one, Sink.opened(address) as other:
        await one.put("books", "Depot", documents(1), None, 1)
        with pytest.raises(Refused, match="another export of this depot runs"):
            await other.put("books", "Depot", documents(1), None, 1)
        await other.put("books", "Depot", documents(2), 1, 2)
    assert rows(server) == [("1-1",), ("1-2",)]


async def test_many_may_make_the_tables_at_once(server: postgresql.Server) -> None:
    address = read(server.url("trusted", "fleet"))

    async def one(number: int) -> None:
        async with Sink.opened(address) as open_sink:
            await open_sink.put(f"books {number}", "Depot", documents(1), None, 1)

    await asyncio.gather(*(one(number) for number in range(8)))
    assert len(rows(server)) == 8


def test_books_put_back_from_a_copy_go_on(export: Command, server: postgresql.Server, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with box(folder) as depot:
        depot.append(session(1), session(2))
        export(depot)
        depot.copy(tmp_path / "copy.db")
        depot.append(session(3), session(2, energy_wh=9))
        books = json.loads(export(depot, "--json")[1])["books"]
    backup.restore(folder / "state", tmp_path / "copy.db", "test", datetime.now(UTC))
    with box(folder) as depot:
        depot.append(session(4))
        told = json.loads(export(depot, "--json")[1])
        assert (told["sent"], told["books"]) == (1, books)
        assert {id for (id,) in rows(server)} == {"1-1", "1-2", "1-3", "1-4"}, (
            "what only the database knows stays"
        )
        server.ask("fleet", "UPDATE depot.exports SET revision = 9000000000000000000")
        told = json.loads(export(depot, "--json")[1])
        assert (told["sent"], told["again"]) == (3, True), "their clock was behind: all of it once more"
        assert "nothing new" in export(depot)[1]
    assert len(rows(server)) == 4


def test_a_renamed_site_says_so(depot: Box, export: Command, server: postgresql.Server) -> None:
    depot.append(session(1))
    export(depot)
    server.ask("fleet", "UPDATE depot.exports SET depot = 'Old yard'")
    depot.append(session(2))
    code, _, err = export(depot)
    assert code == 1 and 'these books are there as "Old yard", this site is "Three posts": --renamed' in err
    assert export(depot, "--renamed")[0] == 0
    assert export(depot)[0] == 0 and len(rows(server)) == 2


# --- the door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "database", "more", "settings", "said"),
    [
        ("member", "fleet", "", {}, "no password supplied; give one in PGPASSFILE"),
        ("member", "fleet", "", {"PGPASSWORD": "wrong-SECRET"}, 'password authentication failed for user "member"; check'),
        ("trusted", "nowhere", "", {}, 'database "nowhere" does not exist; create it'),
        ("stranger", "fleet", "", {}, "pg_hba.conf lets this user, address or way of connecting not in"),
        ("trusted", "fleet", "?sslmode=require", {}, "the server has no TLS: turn it on there"),
        ("tlsonly", "fleet", "?sslmode=disable", {"PGPASSWORD": PASSWORD}, "pg_hba.conf"),
    ],
)  # fmt: skip
def test_who_is_not_let_in_reads_one_line(
    depot: Box,
    export: Command,
    server: postgresql.Server,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    database: str,
    more: str,
    settings: dict[str, str],
    said: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    code, out, err = export(depot, to=server.url(user, database, more))
    assert (code, out) == (1, "") and said in err, err
    assert err.startswith(f"depot: 127.0.0.1:{server.port}/{database}: ")
    assert "SECRET" not in err and PASSWORD not in err


def test_the_password_comes_from_a_file_the_environment_or_systemd(
    depot: Box, export: Command, server: postgresql.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.ask("fleet", "GRANT CREATE ON DATABASE fleet TO members")
    server.ask("fleet", "GRANT members TO member WITH ADMIN OPTION")
    to = server.url("member", "fleet")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert export(depot, to=to)[0] == 0
    monkeypatch.delenv("PGPASSWORD")
    kept = tmp_path / "pgpass"
    kept.touch(mode=0o600)
    kept.write_text(f"127.0.0.1:*:fleet:member:{PASSWORD}\n", encoding="utf-8")
    monkeypatch.setenv("PGPASSFILE", str(kept))
    assert export(depot, to=to)[0] == 0
    monkeypatch.delenv("PGPASSFILE")
    (tmp_path / "postgresql-password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert export(depot, to=to)[0] == 0


def test_without_the_right_to_make_tables_the_owner_makes_them(
    depot: Box,
    export: Command,
    server: postgresql.Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    depot.append(session(1))
    to = server.url("member", "fleet")
    code, _, err = export(depot, to=to)
    assert code == 1 and "may not make tables" in err and "`depot export --sql`" in err
    assert main(["export", "--sql"]) == 0
    script, _, rights = capsys.readouterr().out.partition("-- and for the user of the export:\n")
    server.ask("fleet", script)
    code, _, err = export(depot, to=to)
    assert code == 1 and "this user may not" in err and "permission denied" in err
    first, second, third = (line.removeprefix("-- ").replace("...", "member") for line in rights.splitlines())
    server.ask("fleet", first + second)
    code, _, err = export(depot, to=to)
    assert code == 1 and "may not write its tables" in err
    server.ask("fleet", third)
    assert export(depot, to=to)[0] == 0
    assert rows(server) == [("1-1",)]


def test_tables_of_a_newer_version_are_left_alone(
    depot: Box, export: Command, server: postgresql.Server
) -> None:
    export(depot)
    server.ask("fleet", f"UPDATE depot.version SET number = {tables.VERSION + 1}")
    code, _, err = export(depot)
    assert (
        code == 1 and f"version {tables.VERSION + 1}, this software knows {tables.VERSION}; update it" in err
    )


def test_tables_of_somebody_else_are_left_alone(
    depot: Box, export: Command, server: postgresql.Server
) -> None:
    server.ask("fleet", "CREATE SCHEMA depot AUTHORIZATION trusted; CREATE TABLE depot.sessions (id int)")
    code, _, err = export(depot)
    assert code == 1 and 'relation "sessions" already exists' in err
    assert server.ask("fleet", "SELECT to_regclass('depot.version')") == [(None,)], "nothing was begun"


def test_a_standby_is_one_line(depot: Box, export: Command, server: postgresql.Server) -> None:
    export(depot)
    server.ask("postgres", "ALTER DATABASE fleet SET default_transaction_read_only = on")
    depot.append(session(1))
    code, _, err = export(depot)
    assert code == 1 and "is read-only (a standby?); name the primary" in err


def test_the_certificate_of_the_server_is_checked(
    depot: Box, export: Command, server: postgresql.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = server.folder / "server.crt"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", str(server.folder / "server.key"), "-out", str(own)]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    status = server.folder.stat()
    for path in (own, server.folder / "server.key"):
        os.chown(path, status.st_uid, status.st_gid)
        path.chmod(0o600)
    server.set(ssl_cert_file=str(own), ssl_key_file=str(server.folder / "server.key"))
    server.set(ssl="on")
    try:
        depot.append(session(1))
        trusted = f"?sslmode=verify-full&sslrootcert={own}"
        code, _, err = export(depot, to=server.url("trusted", "fleet", "?sslmode=verify-full"))
        assert code == 1 and "its certificate is not trusted: add ?sslrootcert=FILE" in err, err
        code, _, err = export(depot, to=server.url("trusted", "fleet", trusted.replace(".crt", ".none")))
        assert code == 1 and "check sslrootcert" in err, err
        code, _, err = export(depot, to=server.url("trusted", "fleet", trusted))
        assert code == 1 and "its certificate is for another name" in err, err
        named = server.url("trusted", "fleet", trusted).replace("127.0.0.1", "localhost")
        assert export(depot, to=named)[0] == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
        assert export(depot, to=named.replace(f"&sslrootcert={own}", "&sslrootcert=system"))[0] == 0
        assert export(depot, to=named.replace(f"&sslrootcert={own}", ""))[0] == 0, "the CAs of the box"
    finally:
        server.set(ssl="off")
    assert rows(server) == [("1-1",)]


async def test_books_that_are_away_and_a_controller_that_is_not_there(
    server: postgresql.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--to", server.url("trusted", "fleet"), "--socket", str(tmp_path / "none.sock")]
    assert await asyncio.to_thread(main, words) == 3
    assert "is `depot run` running" in capsys.readouterr().err
    assert server.ask("fleet", "SELECT to_regclass('depot.version')") == [(None,)]
