"""The done-when of OCPP: stations of every version with every security profile, and the real commands, over a night."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from night_site import Json, charges, evse
from ocpp_yard import ALL, VERSIONS, Place, Yard, card, password, powered, version_of, yard
from sim_yard import file_server

from controller.cli import main
from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load, stations
from drivers.sim.quirks import Quirks

ONE_EACH = ("V16P2", "V201P3", "V21P1")
LAST_WORD_WH = 1.0  # registers are told in whole Wh

Typed = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A command in a thread: as it is typed, without the second that an interpreter needs to start."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        where = (
            ("--storage", str(tmp_path / "state"))
            if arguments[0] == "ca"
            else ("--socket", str(tmp_path / "control.sock"))
        )
        code = await asyncio.to_thread(main, [*arguments, *where])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


async def test_the_evening_begins_with_a_typing_error_and_ends_with_the_bill(
    tmp_path: Path, typed: Typed
) -> None:
    async with yard(tmp_path) as made:
        late = made["V201P1"]
        late.station.link.password = "a-word-that-nobody-knows"
        made.mend("V201P1")
        await made.until(
            lambda seen: any(one["source"] == "V201P1" for one in seen["alarms"]), "is turned away"
        )
        code, out, err = await typed("onboard", "V201P1", "--for", "1s")
        assert code == 1 and "depot: not connected yet: V201P1\n" in err
        assert '"V201P1" at 127.0.0.1' in out and "the password is not the one of this station" in out
        late.station.link.password = password("V201P1")
        watching = asyncio.create_task(made.done("onboard", "--watch", "--for", "30s"))
        made.mend()
        everybody = (await watching).out
        for name in ALL:
            assert f"{name} is connected over ocpp{version_of(name)}" in everybody
        await made.ready()

        rows = [f"{card(name)},fleet," for name in ALL] + ["04LOST,fleet,yes", "04BOSS,fleet,"]
        (tmp_path / "tokens.csv").write_text("\n".join(["token,group,blocked", *rows, ""]))
        said = await typed("tokens", "import", str(tmp_path / "tokens.csv"))
        assert said == (0, "stored: 14 tokens\n", "")
        await made.happens(
            lambda: all({"04boss", "04lost"} <= set(place.cards.listed) for place in made.places.values()),
            "every station has the list",
        )
        assert "in the local list of 12 stations\n" in (await typed("tokens", "list"))[1]

        for name, place in made.places.items():
            place.plug("04LOST" if name.endswith("P0") else card(name))
        blocked = [made[f"{version}P0"] for version in VERSIONS]
        await made.happens(
            lambda: all(place.token_status("04LOST") == "Blocked" for place in blocked),
            "the lost card is refused",
        )
        await made.until(
            lambda seen: sum(charges(one) for one in seen["evses"]) == 9, "whoever showed a good card charges"
        )
        assert all(place.amps == 0 for place in blocked)
        for place in blocked:
            place.evse.present(card(place.name))
        await made.until(lambda seen: all(charges(one) for one in seen["evses"]), "now they charge too")
        for name in ("V16P1", "V201P2", "V21P3"):  # another card of the group ends it
            made[name].evse.present("04BOSS")
            await made.until_evse(f"{name}/1", lambda one: one["session"] is None, "is ended by the group")
        for place in made.places.values():
            place.leave()
        await made.until(lambda seen: all(one["session"] is None for one in seen["evses"]), "all have left")
        await billed(made, dict.fromkeys(ALL, 1))


async def billed(made: Yard, times: dict[str, int]) -> list[Json]:
    """Every stay stands in the books so often and no oftener, with the energy of the station's own register; and the
    fuse has carried what it may."""
    sessions: list[Json] = await made.json("sessions")
    assert Counter(one["evse"].partition("/")[0] for one in sessions) == times, sessions
    for name, stays in ((name, made[name].stays) for name in times):
        booked = sorted(one["energy_wh"] for one in sessions if one["evse"] == f"{name}/1" and one["ended"])
        true_wh = sorted(stay.wh for stay in stays if stay.wh is not None)
        assert len(booked) == len(true_wh), (name, sessions)
        for wh, truth_wh in zip(booked, true_wh, strict=True):
            assert abs(wh - truth_wh) <= LAST_WORD_WH, (name, booked, true_wh)
    made.judge()
    await made.end()
    return sessions


async def test_orders_reach_a_station_of_each_version(tmp_path: Path) -> None:
    async with yard(tmp_path, *ONE_EACH) as made:
        made.mend()
        await made.ready()

        async def visit(name: str) -> None:
            made[name].plug()
            at = f"{name}/1"
            await made.until_evse(at, lambda one: one["state"] == "preparing", "has a vehicle")
            await made.ordered("start", at, "--limit", "8 A")
            assert 5 < made[name].amps <= 8
            await made.ordered("limit", at, "7 A")
            assert 5 < made[name].amps <= 7
            await made.ordered("stop", at)
            # the books may close within one tick of the physics
            await made.happens(lambda: made[name].amps == 0, f"{name} has let go")
            made[name].leave()

        await asyncio.gather(*(visit(name) for name in ONE_EACH))
        sessions = await billed(made, dict.fromkeys(ONE_EACH, 1))
        assert {one["stop_reason"] for one in sessions} == {"Remote"}


async def test_a_pause_keeps_the_session_in_every_version(tmp_path: Path) -> None:
    others = ("V16P3", "V201P1", "V21P2")
    async with yard(tmp_path, *others) as made:
        made.mend()
        await made.ready()

        async def visit(name: str) -> None:
            made[name].plug(card(name))
            at = f"{name}/1"
            session = (await made.until_evse(at, charges, "charges"))["session"]["id"]
            await made.ordered("pause", at)
            await made.happens(lambda: made[name].amps == 0, f"{name} rests")
            await made.ordered("resume", at)
            assert made[name].amps >= 6
            assert (await made.until_evse(at, charges, "charges again"))["session"]["id"] == session
            made[name].leave()
            await made.until_evse(at, lambda one: one["session"] is None, "has left")

        await asyncio.gather(*(visit(name) for name in others))
        await billed(made, dict.fromkeys(others, 1))


async def test_every_station_is_asked_reserved_and_looked_after(tmp_path: Path, typed: Typed) -> None:
    async with yard(tmp_path) as made, file_server() as (files, url):
        made.mend()
        await made.ready()

        async def ask(name: str, *arguments: str) -> str:
            code, out, err = await typed("station", name, *arguments)
            assert (code, err) == (0, ""), (name, arguments, out, err)
            return out

        for name in ALL:
            old = version_of(name) == "1.6"
            await ask(name, "reserve", "1", card(name), "--until", "2099-01-01T12:00")
            await ask(name, "unlock", "1")
            await ask(
                name, "variables", "get", "HeartbeatInterval" if old else "OCPPCommCtrlr.HeartbeatInterval"
            )
            if old:
                code, out, err = await typed("station", name, "report")
                assert (code, out) == (1, "") and "OCPP 1.6 has no word for" in err
            else:
                assert len((await ask(name, "report")).splitlines()) > 60
            await ask(name, "logs", "--to", url)
        await made.happens(
            lambda: all(any(file.startswith(f"/{name}") for file in files.taken) for name in ALL),
            "all logs came",
        )
        await made.until(
            lambda seen: all(one["state"] == "reserved" for one in seen["evses"]), "all reserved"
        )

        for place in made.places.values():
            place.plug("04F0F0")  # nobody knows it, and the place is kept for somebody else
        await made.happens(
            lambda: all(p.token_status("04F0F0") for p in made.places.values()), "it is judged"
        )
        assert all(place.amps == 0 for place in made.places.values())
        for name in ALL[1::2]:
            await ask(name, "unreserve", "1")
        for name, place in made.places.items():
            place.evse.present(card(name))
        await made.until(lambda seen: all(charges(one) for one in seen["evses"]), "everybody charges")
        for place in made.places.values():
            place.leave()
        await made.until(lambda seen: all(one["session"] is None for one in seen["evses"]), "all have left")
        for name in ALL:
            await ask(name, "unavailable", "1")
        await made.until(
            lambda seen: all(one["state"] == "unavailable" for one in seen["evses"]), "all closed"
        )
        boots = {name: place.boots for name, place in made.places.items()}
        for name in ALL:
            await ask(name, "available")
            await ask(name, "reset")
        await made.happens(lambda: all(made[name].boots > boots[name] for name in ALL), "all restart")
        await made.ready()
        await billed(made, dict.fromkeys(ALL, 1))


async def test_cut_wires_and_a_killed_controller_lose_no_session_and_book_none_twice(
    tmp_path: Path, typed: Typed
) -> None:
    ways = {"V16P1": Quirks(only_relative=True), "V201P2": Quirks(event_faults=frozenset({"seq_gaps"}))}
    away, others = ("V16P1", "V201P2", "V21P3"), ("V16P3", "V201P0", "V21P2")
    async with yard(tmp_path, *away, *others, quirks=ways) as made:
        made.mend()
        await made.ready()
        assert (await typed("tokens", "add", "04GUEST"))[0] == 0
        await made.happens(
            lambda: all("04guest" in place.cards.listed for place in made.places.values()),
            "the list is there",
        )
        for name, place in made.places.items():
            place.plug(card(name))
        seen = await made.until(
            lambda seen: all(charges(one) for one in seen["evses"]),
            "they charge behind a small fuse",
        )
        before = {one["station"]: one["session"]["id"] for one in seen["evses"]}
        await made.happens(lambda: periodic_values(made["V201P2"]) > 1, "it has left out a number")
        told = {}
        for name in made.names:
            said = await typed("diagnose", name, "--json")
            told[name] = {way["name"] or way["what"] for way in json.loads(said[1])["ways"]}
        odd = {
            "V16P1": {"relative"},
            "V201P2": {"sequence", "transaction events are missing: a gap in seqNo"},
        }
        assert told == {name: odd.get(name, set()) for name in made.names}, "nothing is said of honest ones"

        for name in away:  # one session ends alone, another begins and ends there: nobody hears of it
            made[name].cut()
            made[name].leave()
        await made.happens(lambda: all(made[name].unsent for name in away), "they write it down")
        for name in away:
            made[name].plug("04GUEST")
        await made.happens(lambda: all(made[name].amps > 5 for name in away), "they know the card")
        await made.power_cut()
        for name in away:
            made[name].leave()
        await made.run()
        made.mend()
        await made.ready()
        seen = await made.until(
            lambda seen: all((one["session"] is None) == (one["station"] in away) for one in seen["evses"]),
            "the others go on",
        )
        after = {one["station"]: one["session"]["id"] for one in seen["evses"] if one["session"]}
        assert after == {name: id for name, id in before.items() if name in others}
        await made.happens(lambda: not any(place.unsent for place in made.places.values()), "all is told")
        for name in others:
            made[name].leave()
        await made.until(lambda seen: all(one["session"] is None for one in seen["evses"]), "all have left")
        await billed(made, {name: 2 if name in away else 1 for name in made.names})


def periodic_values(place: Place) -> int:
    return sum(payload.get("triggerReason") == "MeterValuePeriodic" for _, payload, _ in place.heard)


@pytest.mark.parametrize("name", ONE_EACH)
async def test_firmware_comes_to_a_station_of_each_version(tmp_path: Path, name: str) -> None:
    async with yard(tmp_path, name) as made, file_server() as (files, url):
        made.mend()
        await made.ready()
        image = f"{url}image-2.5.0.bin"
        said = await made.done("firmware", "upgrade", name, "--version", "2.5.0", "--url", image, "--follow")
        assert f"{name}  done" in said.out
        assert files.fetched == ["/image-2.5.0.bin"]
        assert made[name].firmware == "2.5.0"
        (shown,) = (await made.json("firmware", "status"))["stations"]
        assert (shown["id"], shown["firmware"]) == (name, "2.5.0")
        await made.end()


async def test_passwords_and_certificates_change_while_stations_are_connected(
    tmp_path: Path, typed: Typed
) -> None:
    renewed, certified = ("V16P1", "V201P2", "V21P1"), ("V16P3", "V201P3", "V21P2")
    async with yard(tmp_path) as made:
        made.mend()
        await made.ready()
        by_hand = {
            each["name"]: each["serial"] for each in json.loads((await typed("ca", "list", "--json"))[1])
        }
        for name in renewed:
            code, out, err = await typed("station-password", name)
            assert (code, err) == (0, "") and "took its new password" in out, (name, out, err)
        for name in certified:
            code, out, err = await typed("station-certificate", name)
            assert (code, err) == (0, "") and "will ask for a certificate" in out, (name, out, err)
        await made.happens(lambda: all(made[name].certificate for name in certified), "the new ones came")
        revoked = ("V16P3", "V201P3", "V21P3")  # the third has no other
        for name in revoked:
            assert (await typed("ca", "revoke", by_hand[name]))[0] == 0
        touched = {*renewed, *certified, *revoked}
        for name in touched:
            made[name].cut()
        await made.until(
            lambda seen: not any(evse(seen, f"{name}/1")["connected"] for name in touched), "away"
        )
        made.mend(*touched)
        await made.ready(*(name for name in ALL if name != "V21P3"))
        assert all(made[name].station.link.password != password(name) for name in renewed)
        code, out, err = await typed("onboard", "V21P3", "--for", "8s")
        assert (
            code == 1
            and "its certificate does not fit its identity, or is not accepted any more"
            in " ".join(out.split())
        )
        await made.end()


@pytest.mark.parametrize("name", ["V16P1", "V201P2", "V21P3"])
async def test_a_station_of_each_version_is_proven(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Here alone the controller lives in the test's process: a proof waits for leases to end, so time runs faster."""
    short = replace(stations.OCPP_LINK, lease_s=30.0, lease_slack_s=6.0, raise_gap_s=4.0)
    monkeypatch.setattr(stations, "OCPP_LINK", short)
    clock = SystemClock(25.0)
    async with powered(tmp_path, [name], clock, {}) as made:
        house = House(load(tmp_path / "depot.toml"), clock)
        async with house.open() as runtime:
            work = asyncio.create_task(house.run(runtime, []))
            try:
                await holds(made, lambda one: True)
                await made.lead_wires()
                made.mend()
                await holds(made, lambda one: one["fallback_stored"])
                made[name].plug(card(name))
                await holds(made, lambda one: charges(one, 8.0))
                code, out, err = await typed("qualify", name, "--quick")
                assert (code, err) == (0, ""), out
                assert f"{name}/1: proven; out of reach it counts at its fallback from now on" in out
                (listed,) = json.loads((await typed("qualify", name, "--list", "--json"))[1])["stations"]
                assert listed["proven"] and listed["proofs"][0]["passed"]
                made.judge()
            finally:
                work.cancel()
                await asyncio.wait({work})


async def holds(made: Yard, so: Callable[[Json], bool]) -> None:
    """Something shows in the status of the only EVSE."""
    async with asyncio.timeout(20):
        while True:
            if (seen := await made.look()) is not None and so(seen["evses"][0]):
                return
            await asyncio.sleep(0.05)
