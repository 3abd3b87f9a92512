"""`depot meter`: what is behind an address, asked over real sockets; and what can be typed."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from modbus_peer import Peer, SerialPeer
from test_modbus_lines import METER, example, serving, sunspec

from controller.cli import main
from controller.config.meter_address import MeterAddress, meter_address
from controller.config.values import Wrong
from drivers.modbus import find, kinds, line, probe
from drivers.modbus.device import Device
from drivers.modbus.sunspec import ModelFile

PLAIN = [kind for kind in kinds() if not isinstance(find(kind), ModelFile)]


async def depot(*words: str) -> int:
    return await asyncio.to_thread(main, ["meter", *words])


async def probed(peer: Peer, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    scheme = "rtu+tcp" if peer.rtu else "tcp"
    await depot("probe", f"{scheme}://127.0.0.1:{peer.port}", "--json", *words)
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.probe, "__defaults__", (0.15,))
    monkeypatch.setattr(Device, "settle_s", 0.0)
    monkeypatch.setattr(line, "PAUSE_S", 0.001)


@pytest.mark.parametrize("kind", PLAIN)
async def test_every_kind_is_found_by_what_it_answers(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving({1: example(kind)}) as peer:
        [asked] = await probed(peer, capsys)
    assert asked["found"][0]["kind"] == kind


async def test_the_lines_it_prints_are_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving({1: example("b23")}) as peer:
        assert await depot("probe", f"tcp://127.0.0.1:{peer.port}/1") == 0
    said = capsys.readouterr().out
    lines = tomllib.loads(said[said.index("[meter.main]") :])["meter"]["main"]
    assert lines["kind"] == "b23"
    assert meter_address(lines["address"]) == MeterAddress("127.0.0.1", peer.port, 1)
    assert "L1 31.25 A  L2 -30.50 A  L3 8.75 A" in said
    assert "L2 feeds back while others draw" in " ".join(said.split())


@pytest.mark.parametrize(("maker", "kind"), [("Fronius", "sunspec-meter"), ("SolarEdge ", "solaredge-meter")])
async def test_a_sunspec_device_says_who_it_is_and_only_its_kinds_are_tried(
    maker: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = maker.encode().ljust(32, b"\0") + b"X-1".ljust(100, b"\0")
    words = [int.from_bytes(name[at : at + 2]) for at in range(0, 132, 2)]
    async with serving({1: sunspec(40000, (1, words), METER)}) as peer:
        [asked] = await probed(peer, capsys)
        assert {one[1] for one in peer.asked} == {3}
    [found] = asked["found"]
    assert (found["kind"], found["said"]) == (kind, f"{maker.strip()} X-1")
    assert found["power_w"] == (-12_500 if kind == "solaredge-meter" else 12_500)


@pytest.mark.parametrize("rtu", [False, True])
async def test_units_are_scanned_and_silent_ones_cost_little(
    rtu: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving({2: example("em24"), 5: example("iem3000")}, rtu=rtu) as peer:
        asked = await probed(peer, capsys, "--units", "1-3,5")
        assert {one["unit"]: [f["kind"] for f in one["found"]][:1] for one in asked} == {
            1: [], 2: ["em24"], 3: [], 5: ["iem3000"],
        }  # fmt: skip
        assert sum(unit in (1, 3) for unit, *_ in peer.asked) <= 2 * 6


async def test_a_serial_line_is_probed(capsys: pytest.CaptureFixture[str]) -> None:
    port = SerialPeer(Peer({7: example("pro380")}, rtu=True))
    await port.start()
    try:
        assert await depot("probe", f"rtu://{port.device}?baud=9600&parity=N/7", "--kind", "pro380") == 0
    finally:
        await port.stop()
    said = capsys.readouterr().out
    assert "Inepro PRO380" in said and f'address = "rtu://{port.device}?baud=9600&parity=N/7"' in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("tcp://127.0.0.1:{port}/1", "--kind", "sdm360"),
            2,
            'no meter of kind "sdm360"; did you mean sdm630',
        ),
        (("tcp://127.0.0.1:{port}/1", "--kind", "umg96"), 1, "unit 1: exception 2, illegal data address"),
        (("tcp://127.0.0.1:{port}/9",), 1, "unit 9: exception 11, gateway target does not respond"),
        (("tcp://127.0.0.1:{port}", "--units", "8-9"), 1, "no meter we know at unit 8 to 9"),
        (("10.0.0.1",), 2, 'write "tcp://HOST:PORT/UNIT"'),
        (("rtu:///dev/nowhere/1",), 1, "there is no such device"),
        (("tcp://127.0.0.1:1/1",), 1, "127.0.0.1:1: no connection"),
    ],
)
async def test_what_goes_wrong_is_one_line(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving({1: example("sdm630")}) as peer:
        assert await depot("probe", *(word.format(port=peer.port) for word in words)) == code
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert err.startswith("depot: ") and said in err


async def test_a_device_of_no_known_kind_says_that_it_answers(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving({1: {(3, 0): 7}}) as peer:
        assert await depot("probe", f"tcp://127.0.0.1:{peer.port}") == 1
    assert "it answers, but no kind we know fits" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["x", "1-", "3-1", "0-999", "", "1,,2"])
async def test_a_list_of_units_that_is_none_is_wrong_use(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["meter", "probe", "tcp://h/1", "--units", written])
    assert caught.value.code == 2
    assert "is not a list of unit ids" in capsys.readouterr().err


async def test_kinds_are_listed_with_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert await depot("kinds", "--json") == 0
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(kinds())
    assert all(row["source"] and row["title"] and row["measures"] for row in rows.values())
    assert not rows["sdm72"]["guards_a_circuit"]
    assert await depot("kinds") == 0
    [row] = [each for each in capsys.readouterr().out.splitlines() if each.startswith("sdm72 ")]
    assert re.split(r" {2,}", row)[-2:] == ["W +Wh -Wh", "mbmd sdm72.go, openWB sdm.py"]


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("tcp://10.0.4.20:1502/3", MeterAddress("10.0.4.20", 1502, 3)),
        ("tcp://gateway/3", MeterAddress("gateway", 502, 3)),
        ("rtu+tcp://[fe80::1]:4001/9", MeterAddress("fe80::1", 4001, 9, "rtu+tcp")),
        ("rtu:///dev/ttyUSB0?baud=19200&parity=E/1", MeterAddress("/dev/ttyUSB0", 0, 1, "rtu", 19200, "E")),
        (
            "rtu:///dev/serial/by-id/usb-FTDI_1?stop=2/247",
            MeterAddress("/dev/serial/by-id/usb-FTDI_1", 0, 247, "rtu", 9600, "N", 2),
        ),
        ("rtu:///dev/ttyS1/5", MeterAddress("/dev/ttyS1", 0, 5, "rtu")),
    ],
)
def test_addresses_are_read_and_written_back(written: str, meant: MeterAddress) -> None:
    assert meter_address(written) == meant
    assert meter_address(str(meant)) == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("rtu://ttyUSB0/1", "not the address of a meter on a serial line"),
        ("rtu:///dev/ttyUSB0", "not the address"),
        ("rtu:///dev/ttyUSB0/0", "unit id 0 does not exist on a serial line"),
        ("rtu:///dev/ttyUSB0/248", "unit id 248"),
        ("rtu:///dev/ttyUSB0?speed=9600/1", '"speed" is not a setting'),
        ("rtu:///dev/ttyUSB0?baud=9601/1", '"9601" is not a speed'),
        ("rtu:///dev/ttyUSB0?parity=X/1", '"X" is not a parity'),
        ("rtu:///dev/ttyUSB0?stop=3/1", '"3" is not a number of stop bits'),
        ("udp://h:502/1", "is not a meter address"),
        ("rtu+tcp://h:0/1", "port 0 does not exist"),
    ],
)
def test_wrong_addresses_say_what_to_write(written: str, said: str) -> None:
    with pytest.raises(Wrong) as caught:
        meter_address(written)
    assert said in caught.value.text and caught.value.suggestion


CONFIG = """
[site]
name = "Depot"
timezone = "UTC"
limit = "100 A"
meter = "main"
[circuit.row]
parent = "site"
limit = "50 A"
meter = "row"
[meter.main]
kind = "sdm630"
address = "rtu:///dev/ttyUSB0?baud=9600/1"
[meter.row]
kind = "{kind}"
address = "rtu:///dev/ttyUSB0?baud={baud}/2"
[ocpp]
listen = "127.0.0.1:0"
[station.CP1]
circuit = "row"
fallback = "6 A"
evse.1 = {{ max = "16 A" }}
ocpp = {{ allow_insecure = true }}
[storage]
path = "data"
"""


@pytest.mark.parametrize(
    ("kind", "baud", "said"),
    [
        ("em24", 19200, 'describes the line of meter "main" differently'),
        ("em42", 9600, 'no meter of kind "em42"; did you mean em24'),
        ("sdm72", 9600, "meter row: kind sdm72 tells no currents, so it cannot guard a circuit"),
    ],
)
def test_check_refuses_what_cannot_work(
    kind: str, baud: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.toml").write_text(CONFIG.format(kind=kind, baud=baud))
    assert main(["check", str(tmp_path / "depot.toml")]) == 1
    assert said in capsys.readouterr().err


def test_check_shows_a_serial_meter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "depot.toml").write_text(CONFIG.format(kind="em24", baud=9600))
    assert main(["check", str(tmp_path / "depot.toml")]) == 0, capsys.readouterr().err
    assert "rtu:///dev/ttyUSB0?baud=9600&parity=N/2" in capsys.readouterr().out
