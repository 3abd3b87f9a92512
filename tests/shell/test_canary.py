"""What is learnt over OCPP never leaves over the Open Platform, and what leaves stands in the egress book: proved on the
wire, byte by byte, while one controller works with both backends.

Canaries: id tokens, serial and card numbers, the transaction number, register values, free texts of the station.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from small_depot import Caller
from two_backends import CLOUD, SECRET, Connection, Site, Tap, TwoBackends, site

from controller.audit import EgressBook
from controller.cli import main
from controller.core.model import EvseState
from controller.ledger import Ledger
from controller.storage import LEDGER, Storage
from drivers.sim.outbox import Slip
from drivers.sim.vehicle import Vehicle

TOKEN, STRANGER = "CANARYTOKEN01", "CANARYSTRANGER1"
FIRST_TRANSACTION = 718_293_646
REGISTER_WH = 918_273_645
BOOT = {
    "chargePointVendor": "CANARYVENDOR",
    "chargePointModel": "CANARYMODEL",
    "firmwareVersion": "CANARYFIRMWARE",
    "chargePointSerialNumber": "CANARYSERIAL1",
    "chargeBoxSerialNumber": "CANARYSERIAL2",
    "meterSerialNumber": "CANARYMETER",
    "meterType": "CANARYTYPE",
    "iccid": "CANARYICCID",
    "imsi": "CANARYIMSI",
}
FAULT = {
    "connectorId": 1,
    "errorCode": "OtherError",
    "status": "Charging",
    "info": "CANARYINFO",
    "vendorErrorCode": "CANARYCODE",
}
# the register grows while we look: its head is enough. The site's own names are no business of the platform either.
CANARIES = (
    "canary",
    str(FIRST_TRANSACTION),
    str(REGISTER_WH)[:6],
    "cp001",
    "cp002",
    "bus-07",
    "two backends",
    "de vries",
)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, '"monitor", "control", "flexibility"', f'"{TOKEN}"') as made:
        made.ocpp_evse.register_wh = REGISTER_WH
        await seed(tmp_path / "state")
        yield made


async def seed(folder: Path) -> None:
    storage = Storage(folder)
    await storage.open()
    number = f"INSERT INTO sqlite_sequence (name, seq) VALUES ('transactions', {FIRST_TRANSACTION - 1})"
    await storage.write(LEDGER, lambda db: db.execute(number))
    await storage.close()


def forms(canary: str) -> list[bytes]:
    """How it could hide, in small letters."""
    plain = [word.encode() for word in {canary, canary.upper(), canary.lower()}]
    coded = [
        code for word in plain for code in (word.hex().encode(), base64.b64encode(word).rstrip(b"=").lower())
    ]
    return [canary.lower().encode(), *coded]


def found(plain: bytes) -> list[str]:
    seen = plain.lower()
    return [canary for canary in CANARIES if any(form in seen for form in forms(canary))]


async def companion_session(two: TwoBackends, client: Caller) -> None:
    """A driver charges over OCPP at a station the platform sees too, and people ask there for what only that can."""
    led = two.led_station
    assert led is not None
    await two.until(lambda: len(two.view("CP002").channels) == 2 and led.connected)
    led.voice.outbox.put("boot", Slip("BootNotification", BOOT))
    two.led_evse.plug(Vehicle("BUS-07", TOKEN, 94_000.0, 0.6, max_a=16.0))
    two.beside_evse.plug(Vehicle("BUS-07", TOKEN, 94_000.0, 0.6, max_a=16.0))
    two.led_evse.present(TOKEN)
    await two.until(lambda: two.view("CP002").session is not None and (two.view("CP002").power_w or 0) > 0)
    led.voice.outbox.put("status", Slip("StatusNotification", FAULT))
    asked = await client.call("discharge", evse="CP002/1", power_w=5_000, duration_s=900)
    await two.until(lambda: any(o.id == asked["order"] and o.outcome == "done" for o in two.snapshot.orders))
    seen = two.view("CP002")
    assert (seen.state, seen.session is not None) == (EvseState.DISCHARGING, True)
    await order(two, client, "stop", station="CP002")
    await two.until(lambda: two.view("CP002").session is None)


async def ocpp_session(two: TwoBackends) -> None:
    """A stranger is turned away, a driver charges, the station tells all it knows."""
    await two.until(lambda: two.view("CP001").connected)
    station = two.station
    assert station is not None
    await two.until(lambda: station.connected)
    station.voice.outbox.put("boot", Slip("BootNotification", BOOT))
    station.voice.outbox.put("data", Slip("DataTransfer", {"vendorId": "CANARYVENDOR", "data": "CANARYDATA"}))
    two.ocpp_evse.plug(Vehicle("BUS-07", TOKEN, 94_000.0, 0.2, max_a=16.0))
    two.ocpp_evse.present(STRANGER)
    two.ocpp_evse.present(TOKEN)
    await two.until(lambda: two.view("CP001").session is not None and (two.view("CP001").power_w or 0) > 0)
    station.voice.outbox.put("status", Slip("StatusNotification", FAULT))


async def order(two: TwoBackends, client: Caller, call: str, station: str = "TP001", **args: Any) -> None:
    id = (await client.call(call, evse=f"{station}/1", **args))["order"]
    await two.until(lambda: any(o.id == id and o.outcome is not None for o in two.snapshot.orders))


async def cloud_session(two: TwoBackends, client: Caller) -> None:
    """Everything that can be asked of the platform, for the same driver."""
    await two.until(lambda: two.state() == "ok" and two.view("TP001").connected and two.tap.open)
    two.cloud_evse.plug(Vehicle("BUS-07", TOKEN, 94_000.0, 0.2, max_a=16.0))
    await order(two, client, "start", token=TOKEN)
    await two.until(lambda: (two.view("TP001").power_w or 0) > 0)
    await order(two, client, "limit", limit_ma=8_000)
    await order(two, client, "pause")
    two.platform.expire_tokens()
    await order(two, client, "stop")
    await two.until(lambda: two.view("TP001").state is not EvseState.CHARGING)


async def book(client: Caller) -> list[dict[str, Any]]:
    answer = await client.call("egress")
    assert not answer["more"]
    return list(answer["egress"])


def as_counted(rows: list[dict[str, Any]]) -> Counter[Any]:
    return Counter((r["method"], r["path"], tuple(sorted(r["fields"].items())), r["bytes"]) for r in rows)


def captured(tap: Tap) -> Counter[Any]:
    return Counter((r.method, r.path, r.fields, r.bytes) for r in tap.requests())


async def quiet_books(two: TwoBackends, client: Caller) -> tuple[list[dict[str, Any]], Counter[Any]]:
    """Book and capture at a moment when no request is under way."""
    until_s = time.monotonic() + 10
    while True:
        rows = await book(client)
        if all(row["status"] and row["hash"] for row in rows) and two.tap.open <= 1:
            seen = captured(two.tap)
            if as_counted(rows) == seen or time.monotonic() > until_s:
                return rows, seen
        assert time.monotonic() < until_s + 5, "never quiet"
        await two.steps(1)


async def test_no_canary_leaves_and_the_book_is_what_left(place: Site, tmp_path: Path) -> None:
    async with place.controller() as two, two.console() as client:
        await ocpp_session(two)
        await cloud_session(two, client)
        two.ocpp_evse.present(TOKEN)
        await two.until(lambda: two.view("CP001").session is None)
        rows, seen = await quiet_books(two, client)
        assert as_counted(rows) == seen
        assert {row["channel"] for row in rows} == {CLOUD}
        assert {row["host"] for row in rows} == {f"127.0.0.1:{two.tap.port}"}
        assert all(row["hash"] for row in rows)
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
        operations = {row["operation"] for row in rows}
        assert operations >= {"token", "device", "stream", "start", "stop", "schedule"}
        assert 101 in {row["status"] for row in rows if row["operation"] == "stream"}
        assert 401 in {row["status"] for row in rows}, "a token expired on the way"

    # the canaries were there to be leaked, and the tap would have caught them
    storage = Storage(tmp_path / "state")
    await storage.open()
    sessions = {row["evse"]: row for row in await Ledger(storage).sessions()}
    assert sessions["CP001/1"]["token"] == TOKEN
    assert sessions["CP001/1"]["transaction"] == str(FIRST_TRANSACTION)
    assert sessions["CP001/1"]["register_start_wh"] == REGISTER_WH
    assert sessions["TP001/1"]["token"] == TOKEN
    stations = await storage.read(LEDGER, lambda db: db.execute("SELECT * FROM stations").fetchall())
    assert "CANARYSERIAL1" in {row[-1] for row in stations}
    plain = place.tap.plain()
    assert b"dvc_1" in plain
    assert SECRET.encode() in plain, "the secret goes to the platform, and to no book"
    assert SECRET.encode() not in (tmp_path / "state" / LEDGER).read_bytes()

    assert found(plain) == []

    ended = EgressBook(storage, place.clock)
    ended.open()
    kept, _ = await ended.rows()
    assert not captured(place.tap) - as_counted([{**row, "bytes": row["bytes"] or 0} for row in kept])
    assert await ended.verify() is None
    ended.close()
    await storage.close()


async def test_a_companion_hears_nothing_of_what_ocpp_knows(tmp_path: Path) -> None:
    words = ('"monitor", "control", "v2g"', f'"{TOKEN}"')
    await seed(tmp_path / "state")
    async with site(tmp_path, *words, companion=True) as place, place.controller() as two:
        two.led_evse.register_wh = REGISTER_WH
        async with two.console() as client:
            await two.until(lambda: two.state() == "ok")
            await companion_session(two, client)
            rows, _ = await quiet_books(two, client)
            sessions = (await client.call("sessions"))["sessions"]
    said = [row for row in rows if row["path"].startswith("/v1/operator/devices/dvc_2/connectors/")]
    assert [row["operation"] for row in said if row["operation"] != "schedule"] == ["discharge", "stop"]
    assert [(s["evse"], s["token"][-4:]) for s in sessions] == [("CP002/1", TOKEN[-4:])], "one, and OCPP's"
    assert sessions[0]["transaction"] == str(FIRST_TRANSACTION)
    assert sessions[0]["register_start_wh"] == REGISTER_WH
    plain = place.tap.plain()
    assert b"dvc_2" in plain
    assert found(plain) == []
    assert b'"reason": "user_request"' in plain or b'"reason":"user_request"' in plain


def test_the_tap_finds_a_canary_wherever_it_stands() -> None:
    body = b'{"transaction_id":"718293646"}'
    head = b"POST /v1/x?note=CanaryToken HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    upgrade = b"GET /v1/operator/stream?devices=dvc_1 HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
    mask = b"\x01\x02\x03\x04"
    said = b'{"token":"' + base64.b64encode(b"BUS-07") + b'"}'
    frame = b"\x81" + bytes([0x80 | len(said)]) + mask
    frame += bytes(byte ^ mask[place % 4] for place, byte in enumerate(said))
    tap = Tap()
    tap.connections = [Connection(bytearray(head + body))]
    assert found(tap.plain()) == ["canary", "718293646"]
    tap.connections = [Connection(bytearray(upgrade + frame))]
    assert found(bytes(tap.connections[0].sent)) == []
    assert found(tap.plain()) == ["bus-07"], "in a masked frame, coded"
    (request,) = tap.requests()
    assert (request.path, request.fields, request.bytes) == (
        "/v1/operator/stream",
        (("devices", "dvc_1"),),
        0,
    )


def test_forms() -> None:
    assert found(b"x" + b"CP001".hex().encode() + b"y") == ["cp001"]
    assert found(b"devices=dvc_1&charge_power=4.0") == []


# --- the command line ---------------------------------------------------------------------------------------------


async def test_the_commands_from_consent_to_listing(
    place: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with place.controller() as two:

        async def depot(*arguments: str) -> tuple[int, str, str]:
            where = ("--socket", str(tmp_path / "control.sock"))
            code = await asyncio.to_thread(main, [*arguments, *where])
            return code, *capsys.readouterr()

        await two.until(lambda: two.state() == "ok" and two.tap.open)
        code, said, _ = await depot("channels")
        assert code == 0
        assert "J. de Vries, 2026-11-20" in said
        assert "control flexibility monitor" in said
        assert await depot("channels", "disable", "open-platform") == (
            0, "open-platform/cloud: off, and stays off until it is enabled here\n", "",
        )  # fmt: skip
        assert two.tap.open == 0
        await two.until(lambda: two.state() == "off")
        channels = json.loads((await depot("channels", "--json"))[1])
        assert [(c["state"], c["purposes"]) for c in channels if c["id"] == CLOUD] == [("off", [])]
        enable = ("channels", "enable", "open-platform", "--by", "A. Jansen", "--purpose")
        code, said, wrong = await depot(*enable, "v2g")
        assert (code, said, wrong.count("\n")) == (1, "", 1)
        assert "v2g: not in the config, which allows control, flexibility, monitor" in wrong
        code, said, _ = await depot(*enable, "monitor", "--purpose", "control")
        assert code == 0
        assert said.startswith("open-platform/cloud: on for control, monitor; enabled by A. Jansen, 20")
        code, said, _ = await depot("egress", "--json", "--since", "1h")
        rows = json.loads(said)
        assert rows[0]["operation"] == "token"
        assert rows[0]["fields"]["client_secret"] == "***"
        assert rows[0].keys() >= {
            "time",
            "channel",
            "host",
            "operation",
            "method",
            "path",
            "fields",
            "bytes",
            "status",
            "hash",
        }
        code, said, _ = await depot("egress")
        assert code == 0
        assert said.splitlines()[0].split() == ["TIME", "HOST", "METHOD", "PATH", "STATUS", "BYTES", "FIELDS"]
        assert "client_secret=***" in said
        assert SECRET not in said
        assert await depot("channels", "disable", "ocpp") == (
            1, "", "depot: no channel 'ocpp' to switch; the config has open-platform/cloud\n",
        )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["channels", "enable", "open-platform", "--purpose", "monitor"],
        ["channels", "enable", "open-platform", "--by", "A. Jansen"],
        ["channels", "disable"],
        ["channels", "forget", "open-platform"],
    ],
)
def test_half_a_consent_is_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_socket_may_stand_before_the_switch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nobody = str(tmp_path / "nobody.sock")
    assert main(["channels", "--socket", nobody, "disable", "open-platform"]) == 3
    assert nobody in capsys.readouterr().err
    assert main(["egress", "--socket", nobody]) == 3
