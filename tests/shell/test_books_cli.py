"""`depot sessions`, `depot report` and `depot tokens forget` against a running depot, over its real socket and files."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, B1, Post, SmallDepot, beside, caller, flies, small_depot
from typed import typed

from controller import session_calls
from controller.core import events as ev
from controller.core.commands import Entry, RecordSaved, SessionSaved, SignedSaved
from controller.core.model import EvseId, IdToken, StationId, VehicleId
from controller.core.signed import SignedValue
from controller.ledger import Ledger
from controller.pseudonyms import KEY, Pseudonyms
from controller.rights import Peer, Rights
from controller.storage import Storage
from tests.audit_rows import audit_tail
from ui.sheet import safe

CARD = "04DEADBEEF01"  # of nobody's vehicle
BUS = "04A2B3C4"  # of BUS-07, in the config
EVIL = VehicleId('<script>alert("x")</script>')
NOON = datetime(2026, 10, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)

Say = Callable[..., tuple[int, str, str]]


def session(
    number: int, evse: EvseId, at: datetime, wh: int, token: str | None, vehicle: str | None, cost: int | None
) -> SessionSaved:
    ended = at + timedelta(hours=2)
    currency = None if cost is None else "EUR"
    return SessionSaved(
        f"0-{number}", evse, f"old-{number}", token, None if vehicle is None else VehicleId(vehicle), at, ended,
        wh, 1000, 1000 + wh, "Local", ("offline",) if number == 3 else (), cost, currency, ended,
    )  # fmt: skip


SEED: tuple[Entry, ...] = (
    session(1, A1, NOON, 10_500, CARD, None, 2_345_678),
    session(2, A1, NOON + DAY, 20_000, BUS, "BUS-07", 4_000_001),
    session(3, B1, NOON + DAY, 7_001, BUS, "BUS-07", None),
    session(4, B1, NOON + 2 * DAY, 30_000, None, EVIL, 1),
    # ends at 0:30 on 1 November in Amsterdam
    session(5, B1, datetime(2026, 10, 31, 21, 30, tzinfo=UTC), 40_000, CARD, None, 5_000_000),
    RecordSaved("r-1", A1, "0-1", NOON, NOON + DAY / 12, 10_620, 120, None, None),
    RecordSaved("r-9", A1, None, NOON, NOON + DAY / 12, 5_000, None, None, None),
    SignedSaved(StationId("A"), "old-1", (SignedValue("2026-10-10T12:00:00Z", "Transaction.Begin", '{"value":"OCMF|1"}'),)),
)  # fmt: skip


async def seeded(folder: Path) -> None:
    storage = Storage(folder / "state")
    await storage.open()
    await Ledger(storage).append(SEED)
    await storage.close()


@pytest.fixture
def booked(tmp_path: Path) -> Iterator[Path]:
    """The control socket of a depot with books of October, at which B/1 charges now."""

    async def serve(ready: threading.Event, over: threading.Event) -> None:
        await seeded(tmp_path)
        async with small_depot(tmp_path, charger=Post()) as running:
            await running.connect_stations()
            await running.begin(B1, "t-live")
            await flies(running, ready, over)

    with beside(serve):
        yield tmp_path / "control.sock"


@pytest.fixture
def say(booked: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    return lambda *arguments: typed(capsys, *arguments, "--socket", str(booked))


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[SmallDepot]:
    await seeded(tmp_path)
    async with small_depot(tmp_path) as running:
        await running.connect_stations()
        yield running


# --- sessions -----------------------------------------------------------------------------------------------------


def test_sessions_are_narrowed_and_stand_beside_the_records(say: Say) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row["id"] for row in json.loads(say("sessions", *arguments, "--json")[1])]

    assert ids("--until", "2026-11-02") == ["0-1", "0-2", "0-3", "0-4", "0-5"]
    assert ids("--vehicle", "BUS-07", "--until", "2026-11-02") == ["0-2", "0-3"]
    assert ids("--token", CARD.lower()) == ["0-1", "0-5"]
    assert ids("--evse", "A", "--since", "2026-10-11T00:00") == ["0-2"]
    assert ids("--evse", "B/1", "--until", "2026-11-02") == ["0-3", "0-4", "0-5"]
    _, table, _ = say("sessions", "--until", "2026-11-02")
    assert re.search(r"A/1 +- +04DEADBEEF01 .* 10\.50 +10\.62 \(\+0\.12\) +2\.35 EUR", table), table
    records = json.loads(say("sessions", "--records", "--json")[1])
    assert [(each["record"], each["session"], each["session_wh"], each["gap_wh"]) for each in records] == [
        ("r-1", "0-1", 10_500, 120),
        ("r-9", None, None, None),
    ]
    assert "r-9" in say("sessions", "--records")[1]


def test_what_is_exported_carries_aliases_unless_it_is_asked_for(say: Say, booked: Path) -> None:
    for form in ("--json", "--csv"):
        _, out, _ = say("sessions", form)
        assert CARD not in out
        assert BUS not in out
    rows = json.loads(say("sessions", "--json")[1])
    alias = rows[0]["token"]
    assert rows[4]["token"] == alias != rows[1]["token"]
    assert [row["id"] for row in json.loads(say("sessions", "--token", alias, "--json")[1])] == ["0-1", "0-5"]
    assert CARD in say("sessions", "--csv", "--plain-tokens")[1]
    assert CARD not in say("sessions", "--hash-tokens")[1]
    assert (booked.parent / "state" / KEY).stat().st_mode & 0o777 == 0o600


def test_a_running_session_is_as_it_is_now(say: Say) -> None:
    row = json.loads(say("sessions", "--since", "2026-11-01T12:00", "--json")[1])[-1]
    assert (row["evse"], row["ended"]) == ("B/1", None)


def test_signed_values_come_with_their_session(say: Say) -> None:
    (row,) = json.loads(say("sessions", "--signed")[1])
    assert row["id"] == "0-1"
    assert row["token"].startswith("#")
    (value,) = row["signed"]
    assert (value["context"], value["value"]) == ("Transaction.Begin", '{"value":"OCMF|1"}')


def test_a_cell_is_no_formula() -> None:
    assert [safe(cell) for cell in ("=1+1", "@x", "-1+1", "-120", "+5", "CP001", "")] == [
        "'=1+1", "'@x", "'-1+1", "-120", "+5", "CP001", "",
    ]  # fmt: skip


# --- reports ------------------------------------------------------------------------------------------------------


class Read(HTMLParser):
    """The cells of a page, its tags, and whether each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {"src", "href", "onload", "onclick"} & {name for name, _ in attrs}, (
            "nothing to fetch or run"
        )
        if tag not in ("meta", "line"):
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


def test_every_form_of_a_report_says_the_same(say: Say, tmp_path: Path) -> None:
    made = json.loads(say("report", "--month", "2026-10", "--json")[1])
    assert (made["start"], made["end"]) == ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
    assert [row["id"] for row in made["sessions"]] == ["0-1", "0-2", "0-3", "0-4"], (
        "0-5 ended in November on site"
    )
    total = made["total"]
    assert (total["sessions"], total["energy_wh"], total["unpriced"]) == (4, 67_501, 1)
    assert total["cost"] == {"EUR": 6.34568}
    assert (total["recorded"], total["gap_wh"]) == (1, 120)
    assert [group["name"] for group in made["groups"]] == [EVIL, "BUS-07", None]
    sessions = json.loads(say("sessions", "--until", "2026-11-01T00:00", "--json")[1])
    ended = [row for row in sessions if row["ended"] and row["ended"] < made["end"]]
    assert total["energy_wh"] == sum(row["energy_wh"] for row in ended)

    code, text, _ = say("report", "--month", "2026-10")
    assert code == 0
    assert "4 sessions, 67.50 kWh, 8.0 h, 6.35 EUR" in text
    assert re.search(r"^Sum +4 +67\.50", text, re.M)
    assert text.isascii()
    assert len(re.findall(r"^\w{3} \d\d  ", text, re.M)) == 31
    files = {form: tmp_path / f"october.{form}" for form in ("html", "txt", "csv")}
    for path in files.values():
        assert say("report", "--month", "2026-10", "--out", str(path))[:2] == (
            0,
            f"{path}: 4 sessions, 67.50 kWh\n",
        )
    assert files["txt"].read_text() == text
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert sum(int(row["energy_wh"]) for row in rows) == 67_501
    assert round(sum(float(row["cost"] or 0) for row in rows), 6) == 6.34568

    page = Read()
    html = files["html"].read_text()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.tags, "what a vehicle is called is no markup"
    assert page.tags.count("rect") == 31
    cells = page.cells
    assert cells[cells.index("Sum") + 1 : cells.index("Sum") + 3] == ["4", "67.50"]
    assert EVIL in cells
    assert CARD not in html + text


def test_a_report_of_one(say: Say) -> None:
    def sums(*arguments: str) -> tuple[int, int]:
        total = json.loads(say("report", "--month", "2026-10", "--json", *arguments)[1])["total"]
        return total["sessions"], total["energy_wh"]

    assert sums("--vehicle", "BUS-07") == (2, 27_001)
    assert sums("--token", CARD) == (1, 10_500)
    by = json.loads(say("report", "--month", "2026-10", "--by", "token", "--json", "--plain-tokens")[1])
    assert [(group["name"], group["energy_wh"]) for group in by["groups"]] == [
        (BUS, 27_001),
        (CARD, 10_500),
        (None, 30_000),
    ]
    assert sums("--vehicle", "nobody") == (0, 0)
    assert "0 sessions, 0.00 kWh" in say("report", "--month", "2020-01")[1]


@pytest.mark.parametrize(
    ("arguments", "wrong", "part"),
    [
        (("--month", "2026-13"), 2, "is not a month of the calendar"),
        (("--month", "november"), 2, '"november" is not a month like 2026-11'),
        (("--month", "2026-10", "--out", "x.pdf"), 2, "must end in .html, .txt, .csv"),
        (("--month", "2026-10", "--out", "/nowhere/x.html"), 1, "No such file or directory"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_line(
    say: Say, arguments: tuple[str, ...], wrong: int, part: str
) -> None:
    code, out, err = say("report", *arguments)
    assert (code, out) == (wrong, "")
    assert part in err
    assert err.count("\n") == 1


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_a_driver_is_forgotten_and_the_sums_stay(say: Say, tmp_path: Path) -> None:
    before = json.loads(say("report", "--month", "2026-10", "--by", "token", "--json")[1])
    assert say("tokens", "add", CARD)[0] == 0
    code, out, err = say("tokens", "forget", CARD)
    assert (code, out) == (1, "")
    assert "--yes" in err, "nobody at a terminal: nothing is done unasked"
    code, out, _ = say("tokens", "forget", CARD, "--yes")
    assert code == 0
    assert out.startswith("forgotten: #")
    assert "in its place in 2 sessions" in out
    assert "backups" in out, "where it still is, is said"
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.name != "ballast"]
    assert len(kept) > 3
    assert [path.name for path in kept if CARD.lower().encode() in path.read_bytes().lower()] == []
    assert CARD not in say("tokens", "list")[1]
    assert CARD not in say("sessions", "--csv", "--plain-tokens")[1]
    after = json.loads(say("report", "--month", "2026-10", "--by", "token", "--json")[1])
    assert [{**row, "revision": 0} for row in after.pop("sessions")] == [
        {**row, "revision": 0} for row in before.pop("sessions")
    ]
    assert after == before, "aliases and sums are the same as in what was exported before"
    audit = json.loads(say("log", "--json")[1])
    assert CARD[:8] not in json.dumps(audit)


def test_a_token_nobody_knows_is_not_called_forgotten(say: Say) -> None:
    code, out, _ = say("tokens", "forget", "04FFFFFFFF", "--yes")
    assert (code, out) == (0, "04FFFFFFFF was in no book and in no session; is it typed right?\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "code"), [(CARD.lower() + "\n", 0), (CARD[:-1] + "\n", 1), ("y\n", 1), ("", 1)]
)
def test_at_a_terminal_the_token_is_typed_again(
    say: Say, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert say("tokens", "forget", CARD)[0] == code
    assert (CARD in say("sessions", "--csv", "--plain-tokens")[1]) == (code == 1)


def test_who_charges_or_stands_in_the_config_is_not_forgotten(say: Say) -> None:
    code, _, err = say("tokens", "forget", BUS, "--yes")
    assert code == 1
    assert "it belongs to BUS-07 in the config" in err


async def test_a_late_value_does_not_bring_a_driver_back(depot: SmallDepot) -> None:
    """What the core still remembers of an ended session is written again when its closing value comes."""
    at = depot.clock.now().utc
    report = depot.runtime.report
    await report(ev.TokenSet("anna", IdToken(CARD)))
    await report(ev.TransactionStarted(A1, "wire", "late", CARD, 1000, at))
    async with caller(depot.socket) as client:
        code, text = await client.refusal("token-forget", token=CARD.lower())
        assert (code, text) == ("charging", "it charges at A/1: forget it once that has ended")
        await report(ev.TransactionEnded(StationId("A"), A1, "late", "Local", 1000, at + timedelta(hours=1)))
        alias = (await client.call("token-forget", token=CARD))["alias"]
        await report(ev.TransactionMeasured(StationId("A"), "late", 1050))
        rows = (await client.call("sessions", evse="A/1"))["sessions"]
    assert [(row["token"], row["energy_wh"]) for row in rows if row["transaction"] == "late"] == [(alias, 50)]
    assert await depot.runtime.ledger.verify_audit() is None
    (row,) = [row for row in await audit_tail(depot.runtime.ledger, 20) if row["what"] == "token-forgotten"]
    assert (row["subject"], row["detail"]) == (alias, "")


# --- who may see what ---------------------------------------------------------------------------------------------


async def test_a_viewer_never_gets_a_whole_token(depot: SmallDepot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rights, "peer", lambda self, end: Peer("guest", operator=False, viewer=True))
    names = Pseudonyms(depot.storage.folder)
    await names.ready()
    async with caller(depot.socket) as client:
        told: list[Any] = [
            await client.call("sessions"),
            await client.call("sessions", tokens="hashed"),
            await client.call("sessions-changed"),
            await client.call("sessions-signed"),
            await client.call("sessions", token=names.alias(CARD)),
        ]
        assert CARD not in json.dumps(told)
        assert BUS not in json.dumps(told)
        assert len(told[-1]["sessions"]) == 2
        for call in ("sessions", "sessions-changed", "sessions-signed"):
            assert (await client.refusal(call, tokens="plain"))[0] == "not-allowed"
        assert (await client.refusal("sessions", token=CARD))[0] == "not-allowed"
        assert (await client.refusal("sessions", tokens="raw"))[0] == "bad-request"
        assert (await client.refusal("token-forget", token=CARD))[0] == "not-allowed"


async def test_changes_come_page_by_page(depot: SmallDepot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_calls, "PAGE", 2)
    seen: list[str] = []
    after, more = 0, True
    async with caller(depot.socket) as client:
        while more:
            page = await client.call("sessions-changed", after=after)
            seen += [row["id"] for row in page["sessions"]]
            after, more = page["sessions"][-1]["revision"], page["more"]
    assert sorted(seen) == ["0-1", "0-2", "0-3", "0-4", "0-5"]


async def test_a_key_that_cannot_be_used_is_one_line(depot: SmallDepot) -> None:
    (depot.storage.folder / KEY).write_bytes(b"?")
    async with caller(depot.socket) as client:
        code, text = await client.refusal("sessions")
    assert code == "failed"
    assert "token-key: 32 bytes are expected" in text
