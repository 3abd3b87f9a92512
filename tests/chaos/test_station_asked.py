"""`depot station`, local lists and firmware through the whole controller: one station of each OCPP version, all sockets real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sim_yard import file_server
from test_whole_house_versions import ON_PAPER, VERSIONS, MixedHouse
from whole_house import card, opened

from controller.cli import main
from controller.cli.compose import House
from controller.core.events import Event, FirmwareReported
from controller.storage import LEDGER
from drivers.sim.cards import Cards
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation

Said = tuple[int, str, str]
Type = Callable[..., Any]


class AskedHouse(MixedHouse):
    """CP001 speaks 1.6, CP002 2.0.1, CP003 2.1."""

    def __init__(self, folder: Path) -> None:
        super().__init__(60.0)
        self.folder = folder
        self.one: SimCharger | None = None

    async def _stations(self, house: House) -> None:
        assert house.ocpp is not None
        await house.ocpp.ready()
        url = f"ws://127.0.0.1:{house.ocpp.port}/ocpp"
        self.one = SimCharger("CP001", url, [self.evses["CP001"]], clock=self.clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.world.run())
            group.create_task(self.one.run())
            for name, version in list(VERSIONS.items())[1:]:
                self.two[name] = SimStation(
                    name,
                    url,
                    [self.evses[name]],
                    clock=self.clock,
                    versions=[f"ocpp{version}"],
                    variables=ON_PAPER,
                )
                group.create_task(self.two[name].run())

    def cards(self) -> list[Cards]:
        assert self.one is not None
        return [self.one.flash.cards, *(station.memory.cards for station in self.two.values())]

    async def audited(self) -> list[tuple[str, str]]:
        """Subject and detail of every question, oldest first."""
        assert self.house is not None

        def work(db: Any) -> list[tuple[str, str]]:
            return list(
                db.execute("SELECT subject, detail FROM audit WHERE what = 'station-asked' ORDER BY id")
            )

        return await self.house.storage.read(LEDGER, work)


@pytest.fixture
def typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    async def run(*arguments: str) -> Said:
        code = await asyncio.to_thread(main, [*arguments, "--socket", str(tmp_path / "control.sock")])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


async def test_the_list_is_in_every_station_and_a_blocked_token_leaves_the_caches(
    tmp_path: Path, typed: Type
) -> None:
    async with opened(AskedHouse(tmp_path), tmp_path) as site:
        await site.until(lambda: all(card("CP001").casefold() in cards.listed for cards in site.cards()))
        first = {cards.version for cards in site.cards()}
        assert (await typed("tokens", "add", "CARD1", "--group", "night", "--expires", "2099-12-31"))[0] == 0
        await site.until(lambda: all("card1" in cards.listed for cards in site.cards()))
        for cards in site.cards():
            listed = cards.listed["card1"]
            assert (listed.status, listed.group, str(listed.until)) == (
                "Accepted", "night", "2099-12-31 22:59:59+00:00",
            )  # fmt: skip
        assert {cards.version for cards in site.cards()} == {version + 1 for version in first}
        for cards in site.cards():
            cards.cache["other"] = cards.listed["card1"]
        assert (await typed("tokens", "add", "CARD1", "--blocked"))[0] == 0
        await site.until(lambda: all(cards.listed["card1"].status == "Blocked" for cards in site.cards()))
        assert [cards.cache for cards in site.cards()] == [{}, {}, {}]

        assert site.runtime is not None
        depot = site.runtime.depot
        await site.until(lambda: set(depot.token_lists().values()) == {depot.tokens.version})
        assert "in the local list of 3 stations\n" in (await typed("tokens", "list"))[1]


async def test_questions_in_plain_words(tmp_path: Path, typed: Type) -> None:
    async with opened(AskedHouse(tmp_path), tmp_path) as site:

        async def ask(station: str, *arguments: str) -> Said:
            said: Said = await typed("station", station, *arguments)
            return said

        for name in VERSIONS:
            assert await ask(name, "cache", "clear") == (0, f"{name}: Accepted\n", "")
            assert await ask(name, "unlock", "1") == (0, f"{name}: Unlocked\n", "")
            assert await ask(name, "unavailable", "1") == (0, f"{name}: Accepted\n", "")
            assert await ask(name, "available") == (0, f"{name}: Accepted\n", "")
            assert await ask(name, "available", f"{name}/1") == (0, f"{name}: Accepted\n", "")
            assert await ask(name, "trigger", "values", "1") == (0, f"{name}: Accepted\n", "")
            assert (await ask(name, "reserve", "1", "04AABBCC", "--until", "2099-01-01T12:00"))[0] == 0
            assert (await ask(name, "unreserve", "1"))[0] == 0
            assert (await ask(name, "unreserve", "1"))[::2] == (
                1, f"depot: {name} answered CancelReservation: Rejected\n",
            )  # fmt: skip
        assert site.one is not None
        assert site.one.flash.inoperative == set() == site.two["CP002"].memory.inoperative

        code, out, _ = await ask("CP001", "variables", "get", "HeartbeatInterval", "--json")
        assert (code, json.loads(out)["rows"]) == (
            0,
            [{"name": "HeartbeatInterval", "value": "60", "access": ""}],
        )
        heartbeat = "OCPPCommCtrlr.HeartbeatInterval"
        code, out, _ = await ask("CP002", "variables", "get", heartbeat, "EVSE@1.Available")
        assert code == 0 and "EVSE@1.Available" in out and "60" in out
        assert (await ask("CP003", "variables", "set", heartbeat, "70"))[0] == 0
        assert site.two["CP003"].memory.variables.heartbeat_s() == 70
        code, out, err = await ask("CP002", "variables", "get", "No.Such")
        assert code == 1 and "UnknownComponent" in out and "UnknownComponent" in err

        code, out, _ = await ask("CP002", "report", "--json")
        told = json.loads(out)
        assert (code, told["complete"]) == (0, True)
        rows = {row["name"]: row["value"] for row in told["rows"]}
        assert rows[heartbeat] == "60" and rows["EVSE@1.Available"] == "true" and len(rows) > 60
        assert (await ask("CP002", "profiles"))[1].splitlines()[0].split()[:3] == ["EVSE", "ID", "PURPOSE"]

        assert (await ask("CP003", "monitors", "set", "EVSE@1.Power", "upper", "11000"))[0] == 0
        code, out, _ = await ask("CP003", "monitors", "list")
        assert code == 0 and "EVSE@1.Power" in out and "UpperThreshold" in out
        assert (await ask("CP003", "monitors", "clear", "1"))[0] == 0
        assert (await ask("CP003", "monitors", "list"))[:2] == (0, "CP003: EmptyResultSet\n")

        assert (await ask("CP002", "message", "set", "Gate closes at 22:00", "--until", "2099-01-01"))[0] == 0
        assert "Gate closes at 22:00" in (await ask("CP002", "message", "list"))[1]
        assert (await ask("CP002", "message", "clear"))[0] == 0
        code, out, _ = await ask("CP002", "customer", "--token", card("CP002"))
        assert (code, out) == (0, f"{card('CP002')} Accepted\n")
        code, _, err = await ask("CP002", "cost", "1", "4.50")
        assert (code, err) == (1, "depot: CP002: no transaction runs on EVSE 1\n")
        assert (await ask("CP001", "transfer", "com.acme"))[::2] == (
            1, "depot: CP001 answered DataTransfer: UnknownVendorId\n",
        )  # fmt: skip
        code, out, _ = await ask("CP001", "call", "GetLocalListVersion")
        assert code == 0 and json.loads(out)["listVersion"] > 0
        code, out, _ = await ask(
            "CP002", "call", "GetReport", '{"componentVariable": [{"component": {"name": "EVSE"}}]}'
        )
        assert code == 0 and len(out.splitlines()) == 6


NOT_IN_16 = (
    ("reset", "--when-idle"), ("report",), ("monitors", "list"), ("message", "list"), ("customer", "--id", "x"),
    ("cost", "1", "2"), ("profiles",),
)  # fmt: skip
LIMITS = (
    ("CP001", "SetChargingProfile", "depot limit"),
    ("CP001", "ClearChargingProfile", "depot limit"),
    ("CP003", "UpdateDynamicSchedule", "depot limit"),
    ("CP002", "RequestStartTransaction", "depot start"),
    ("CP002", "BootNotification", "lets a central system ask"),
    ("CP001", "BootNotificationResponse", "lets a central system ask"),
    ("CP001", "ResetResponse", "lets a central system ask"),
)


async def test_what_is_refused_is_one_line_and_no_limit_is_touched(tmp_path: Path, typed: Type) -> None:
    async with opened(AskedHouse(tmp_path), tmp_path) as site:
        assert site.one is not None
        before = (site.one.flash.profiles, list(site.two["CP002"].memory.profiles))
        for arguments in NOT_IN_16:
            code, out, err = await typed("station", "CP001", *arguments)
            assert (code, out) == (1, "")
            assert err.startswith("depot: CP001: OCPP 1.6 has no word for ") and err.count("\n") == 1
        for station, action, hint in LIMITS:
            code, _, err = await typed("station", station, "call", action)
            assert code == 1 and hint in err and err.count("\n") == 1
        for name, hint in (("MaxCurrent", "depot limit"), ("AuthorizationKey", "depot station-password")):
            code, _, err = await typed("station", "CP001", "variables", "set", name, "6")
            assert code == 1 and hint in err
            payload = json.dumps({"key": name, "value": "6"})
            assert hint in (await typed("station", "CP001", "call", "ChangeConfiguration", payload))[2]
        wrong: tuple[tuple[tuple[str, ...], int, str], ...] = (
            (("CP009", "report"), 1, "no station 'CP009'"),
            (("CP001", "call", "Reset", "{"), 2, "not JSON"),
            (("CP001", "call", "Reset", '{"type": "Cold"}'), 2, "Cold"),
            (("CP001", "unlock", "2"), 2, "there is no EVSE 2"),
            (("CP002", "variables", "get", "Nonsense"), 2, "write Component.Variable"),
            (("CP002", "trigger", "diagnostics"), 1, "cannot be asked for"),
            (("CP002", "trigger", "tea"), 1, "there is no message"),
        )
        for words, expected, said in wrong:
            code, _, err = await typed("station", *words)
            assert code == expected, words
            assert said in err and err.count("\n") == 1
        assert before == (site.one.flash.profiles, list(site.two["CP002"].memory.profiles))


async def test_everything_asked_is_audited_without_secrets(tmp_path: Path, typed: Type) -> None:
    async with opened(AskedHouse(tmp_path), tmp_path) as site, file_server() as (files, url):
        to = url.replace("http://", "http://anna:secret@")
        assert (await typed("station", "CP002", "logs", "--to", to, "--kind", "security"))[0] == 0
        await site.until(lambda: files.taken)
        assert (await typed("station", "CP001", "reserve", "1", "04AABBCC", "--until", "2099-01-01"))[0] == 0
        assert (await typed("station", "CP001", "report"))[0] == 1
        audited = await site.audited()
        assert [subject for subject, _ in audited] == ["CP002", "CP001", "CP001"]
        assert audited[0][1].startswith("logs to=http://***@127.0.0.1:") and audited[0][1].endswith(
            ": Accepted"
        )
        assert audited[1][1] == "reserve evse=1 token=…BBCC until=2098-12-31T23:00:00Z: Accepted"
        assert audited[2][1].startswith("report kind=full: refused: OCPP 1.6 has no word")


async def test_firmware_gets_into_one_station_after_the_other(tmp_path: Path, typed: Type) -> None:
    async with opened(AskedHouse(tmp_path), tmp_path) as site, file_server() as (files, url):
        assert site.one is not None and site.runtime is not None
        heard: list[Event] = []
        site.runtime.hearers.append(heard.append)
        image = f"{url}image-2.5.0.bin"
        wish = ("firmware", "upgrade", *VERSIONS, "--version", "2.5.0")
        code, out, err = await typed(*wish, "--url", image, "--follow")
        assert (code, err) == (0, ""), out
        assert files.fetched == ["/image-2.5.0.bin"] * 3
        assert {site.one.flash.firmware, *(two.memory.firmware for two in site.two.values())} == {"2.5.0"}
        told = [event for event in heard if isinstance(event, FirmwareReported)]
        assert {event.version for event in told} == {"2.5.0"}, (
            "the station does not say it: it is the one ordered"
        )
        assert {event.status for event in told} >= {"downloading", "upgrading"}
        assert (await typed("firmware", "upgrade", "CP001", "--version", "2.6.0", "--follow"))[0] == 1
        assert "told where the image is" in (await typed("firmware", "status"))[1]
