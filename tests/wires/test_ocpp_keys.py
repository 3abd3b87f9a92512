"""Passwords of stations: what opens, how one follows another, and what survives a crash in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ocpp_peer import PASSWORD, a_station, basic, peer, running, settings
from ocpp_tls_bench import with_folder
from websockets.exceptions import InvalidStatus

from controller.core.events import LinkUp, SecurityEvent
from controller.core.model import StationId
from drivers.errors import Misconfigured, Refused, Unreachable
from drivers.ocpp.frames import redacted
from drivers.ocpp.keys import FILE, MOST_OFFERED, Keys
from drivers.ocpp.station import CallError

CP1, CP2, STRANGER = StationId("CP1"), StationId("CP2"), StationId("CP9")
HEX = "00112233445566778899aabbccddeeff00112233"


def keys(path: Path | None = None, **passwords: str) -> Keys:
    made = Keys({StationId(name): word for name, word in (passwords or {"CP1": PASSWORD}).items()}, path)
    made.open()
    return made


class Station:
    """Takes what it is told, or fails as it is told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.password = ""

    async def __call__(self, password: str) -> None:
        self.password = password
        if self.failure is not None:
            raise self.failure


# --- what opens -----------------------------------------------------------------------------------------------


def test_only_the_password_of_the_station_opens() -> None:
    held = keys(CP1="one password", CP2="another password")
    assert held.fits(CP1, b"one password")
    assert not held.fits(CP1, b"another password")
    assert not held.fits(CP1, b"")
    assert not held.fits(STRANGER, b"one password")
    assert not held.fits(STRANGER, b"")


@pytest.mark.parametrize("written", [HEX, HEX.upper(), HEX.encode().hex()])
@pytest.mark.parametrize("sent", [bytes.fromhex(HEX), HEX.encode(), HEX.upper().encode()])
def test_key_bytes_may_come_as_such_or_in_hex(written: str, sent: bytes) -> None:
    """OCPP 1.6 writes AuthorizationKey in hex; some stations send the bytes, some the hex."""
    assert keys(CP1=written).fits(CP1, sent)
    assert not keys(CP1=written).fits(CP1, sent[:-1])


def test_a_short_password_of_hex_signs_is_just_text() -> None:
    assert keys(CP1="abcdef12").fits(CP1, b"abcdef12")
    assert not keys(CP1="abcdef12").fits(CP1, b"ABCDEF12")


def test_nothing_readable_is_held(tmp_path: Path) -> None:
    held = keys(CP1=PASSWORD, CP2=PASSWORD)
    digests = [held._held[each].configured for each in (CP1, CP2)]
    assert PASSWORD not in repr(held._held)
    assert digests[0] != digests[1]  # the same password twice does not show
    assert keys(CP1=PASSWORD)._held[CP1].configured != digests[0]  # nor from one box to the next


# --- one follows another --------------------------------------------------------------------------------------


async def test_both_open_until_the_station_comes_with_the_new_one(tmp_path: Path) -> None:
    held, station = keys(tmp_path / FILE), Station()
    await held.change(CP1, station)
    assert len(station.password) == 20 and station.password.isalnum()
    assert held.fits(CP1, PASSWORD.encode())
    assert held.fits(CP1, station.password.encode())
    assert not held.fits(CP1, PASSWORD.encode())
    assert held.fits(CP1, station.password.encode().hex().encode())
    await held.settle()


async def test_a_change_survives_a_restart_at_any_point(tmp_path: Path) -> None:
    path, station = tmp_path / FILE, Station()
    held = keys(path)
    await held.change(CP1, station)
    again = keys(path)
    assert again.fits(CP1, PASSWORD.encode())  # a crash before the station came
    assert again.fits(CP1, station.password.encode())
    await again.settle()
    last = keys(path)
    assert not last.fits(CP1, PASSWORD.encode())
    assert last.fits(CP1, station.password.encode())


async def test_the_new_one_is_on_the_disk_before_the_station_has_it(tmp_path: Path) -> None:
    path = tmp_path / FILE
    held = keys(path)

    async def tell(password: str) -> None:
        assert keys(path).fits(CP1, password.encode())

    await held.change(CP1, tell)


async def test_the_file_is_private_and_holds_no_password(tmp_path: Path) -> None:
    path, station = tmp_path / FILE, Station()
    await keys(path).change(CP1, station)
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (
        PASSWORD not in text and station.password not in text and station.password.encode().hex() not in text
    )
    assert list(json.loads(text)["stations"]) == ["CP1"]


async def test_a_refusal_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path, station = tmp_path / FILE, Station(Refused("no"))
    held = keys(path)
    with pytest.raises(Refused):
        await held.change(CP1, station)
    for each in (held, keys(path)):
        assert each.fits(CP1, PASSWORD.encode())
        assert not each.fits(CP1, station.password.encode())


@pytest.mark.parametrize("failure", [Unreachable("no answer"), CallError("InternalError", "")])
async def test_without_a_clear_answer_both_open(tmp_path: Path, failure: Exception) -> None:
    held, station = keys(tmp_path / FILE), Station(failure)
    with pytest.raises(type(failure)):
        await held.change(CP1, station)
    assert held.fits(CP1, PASSWORD.encode())
    assert held.fits(CP1, station.password.encode())
    await held.settle()


async def test_changes_without_an_end_are_few(tmp_path: Path) -> None:
    held = keys(tmp_path / FILE)
    stations = [Station() for _ in range(MOST_OFFERED)]
    for station in stations:
        await held.change(CP1, station)
    with pytest.raises(Refused, match="reconnect"):
        await held.change(CP1, Station())
    assert held.fits(CP1, stations[1].password.encode())  # the first was overwritten, the last may yet come
    assert not held.fits(CP1, stations[0].password.encode())
    assert not held.fits(CP1, PASSWORD.encode())
    assert held.fits(CP1, stations[2].password.encode())
    await held.settle()


async def test_a_newer_password_in_the_config_counts(tmp_path: Path) -> None:
    path, station = tmp_path / FILE, Station()
    held = keys(path)
    await held.change(CP1, station)
    held.fits(CP1, station.password.encode())
    await held.settle()
    edited = keys(path, CP1="written by hand")
    assert edited.fits(CP1, b"written by hand")
    assert not edited.fits(CP1, station.password.encode())


async def test_back_to_the_config(tmp_path: Path) -> None:
    path, station = tmp_path / FILE, Station()
    held = keys(path)
    await held.change(CP1, station)
    held.fits(CP1, station.password.encode())
    await held.forget(CP1)
    for each in (held, keys(path)):
        assert each.fits(CP1, PASSWORD.encode())
        assert not each.fits(CP1, station.password.encode())
    await held.settle()


async def test_a_password_given_in_another_way(tmp_path: Path) -> None:
    held = keys(tmp_path / FILE)
    await held.change(CP1, Station())
    await held.put(CP1, "by hand")
    await held.put(CP2, "too")
    assert held.fits(CP1, b"by hand") and held.fits(CP2, b"too")
    assert not held.fits(CP1, PASSWORD.encode())
    assert keys(tmp_path / FILE).fits(CP1, b"by hand")


async def test_without_a_password_there_is_nothing_to_change() -> None:
    with pytest.raises(Misconfigured, match="password_file"):
        await keys().change(STRANGER, Station())
    with pytest.raises(Misconfigured, match="password_file"):
        await keys().forget(STRANGER)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"key": "zz", "stations": {}}', '{"key": "", "stations": 3}']
)
def test_a_damaged_file_stops_the_start(tmp_path: Path, content: str) -> None:
    """To go on with the passwords of the config would lock out whoever has a newer one."""
    (tmp_path / FILE).write_text(content)
    with pytest.raises(Misconfigured, match="backup"):
        keys(tmp_path / FILE)


async def test_a_disk_that_does_not_take_it_stops_the_change(tmp_path: Path) -> None:
    station = Station()
    with pytest.raises(Misconfigured, match=FILE):
        await keys(tmp_path / "none" / FILE).change(CP1, station)
    assert station.password == ""


# --- on the wire ----------------------------------------------------------------------------------------------


async def test_a_station_of_1_6_gets_a_new_password(tmp_path: Path) -> None:
    """TC_073: in hex, as AuthorizationKey; then the old one is void."""
    async with running(with_folder(settings(), tmp_path)) as (server, depot):
        async with peer(server) as station:
            await station.boot_and_settle()
            assert await server.security.change_password(CP1, "anna") == "Accepted"
            told = next(p for n, p in station.calls if p.get("key") == "AuthorizationKey")
            word = bytes.fromhex(told["value"]).decode()
        event = await depot.until_a(SecurityEvent)
        assert event.kind == "PasswordChanged"
        assert "anna" in event.text and word not in event.text
        assert all(word not in frame.text and told["value"] not in frame.text for frame in server.frames(CP1))
        async with peer(server, headers=basic("CP1", word)):
            await depot.until(lambda _: len(depot.all(LinkUp)) == 2)
        with pytest.raises(InvalidStatus):
            async with peer(server):
                raise AssertionError("the old password still opens")


@pytest.mark.parametrize("answer", [{"status": "Rejected"}, {"status": "NotSupported"}, {}])
async def test_a_station_that_refuses_keeps_its_password(tmp_path: Path, answer: Any) -> None:
    async with running(with_folder(settings(), tmp_path)) as (server, _):
        async with peer(server) as station:
            await station.boot_and_settle()
            station.answers["ChangeConfiguration"] = answer
            with pytest.raises(Refused, match="keeps its password"):
                await server.security.change_password(CP1, "anna")
        assert not json.loads((tmp_path / FILE).read_text())["stations"]


async def test_a_station_that_is_not_there_is_not_changed(tmp_path: Path) -> None:
    async with running(with_folder(settings(SHUT=a_station("SHUT")), tmp_path)) as (server, _):
        with pytest.raises(Refused, match="not connected"):
            await server.security.change_password(StationId("SHUT"), "anna")
    assert not (tmp_path / FILE).exists()


def test_passwords_on_the_wire_are_not_kept() -> None:
    old = (
        '[2,"1","ChangeConfiguration",{"key":"AuthorizationKey","value":"73656372657473656372657473656372"}]'
    )
    new = (
        '[2,"1","SetVariables",{"setVariableData":[{"attributeValue":"top secret","component":{"name":'
        '"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}]'
    )
    assert "7365" not in redacted(old)
    assert "top secret" not in redacted(new)
