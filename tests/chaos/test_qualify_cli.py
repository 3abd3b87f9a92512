"""`depot qualify` and `depot onboard` as a person types them, against a running depot."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import whole_house
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake
from whole_house import WholeHouse

from controller.cli import main, onboard
from controller.config import stations

CP = "CP001"
SHORT = replace(stations.OCPP_LINK, lease_s=30.0, lease_slack_s=6.0, raise_gap_s=4.0)
WITHIN_S = 20.0


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WholeHouse]:
    """In a thread of its own, as another process would be; a vehicle charges at CP001, CP003 is out of reach."""
    monkeypatch.setattr(stations, "OCPP_LINK", SHORT)
    monkeypatch.setattr(whole_house, "SPEED", 25.0)
    ready, over = threading.Event(), threading.Event()
    found: list[WholeHouse] = []

    async def serve() -> None:
        async with whole_house.whole_house(tmp_path, limit_a=80.0) as site:
            site.arrive(CP)
            await site.until(lambda: (site.view(CP).measured_ma.l1 or 0) > 8_000)
            site.stations["CP003"].drop_link(away_s=1e6)
            await site.until(lambda: not site.view("CP003").connected)
            found.append(site)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(WITHIN_S)
        yield found[0]
    finally:
        over.set()
        thread.join()


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], live: WholeHouse) -> Said:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(live.socket)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


REST = ("--skip", "lease", "--skip", "cut", "--skip", "reboot", "--skip", "spikes")


def test_a_proof_is_told_as_it_goes_and_stands_in_the_list(said: Said) -> None:
    code, out, err = said("qualify", CP, *REST)
    assert code == 1, "not proven by a part of the checks"
    lines = out.splitlines()
    assert lines[0].startswith("CP001/1: limits, pause; limits of 6 A, 10 A, 14 A; about 1 min")
    assert any("ok   limits  6 A: " in line for line in lines)
    assert "lease: skipped" in lines
    assert lines[-1] == "CP001/1: NOT proven; stored as not proven"
    assert err == ""
    code, out, err = said("qualify", CP, "--json", *REST[2:])
    document = json.loads(out)
    assert code == 1 and document["evse"] == "CP001/1" and len(document["findings"]) == 6
    assert [line["check"] for line in document["lines"] if line["passed"]] == ["limits", "lease", "pause"]
    assert "about" in err, "progress goes beside the document"
    code, out, _ = said("qualify", "--list")
    row = next(line for line in out.splitlines() if line.startswith(CP))
    assert "1.0.0" in row and "  no  " in row and "cut: skipped; reboot: skipped; spikes: skipped" in row
    assert "never proven: depot qualify CP002" in out
    assert "    " in said("qualify", CP, "--list")[1]
    listed = json.loads(said("qualify", "--list", "--json")[1])["stations"]
    assert [each["id"] for each in listed] == ["CP001", "CP002", "CP003"]
    assert listed[0]["proofs"][0]["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "wrong", "text"),
    [
        ((), 2, "name a station, or ask for --list"),
        (("CP002",), 1, "has no session"),
        (("CP003",), 1, "is offline"),
        (("CP9",), 1, "no station 'CP9'"),
        (("CP9", "--list"), 1, "no station 'CP9'"),
    ],
)
def test_mistakes_are_one_line(said: Said, arguments: tuple[str, ...], wrong: int, text: str) -> None:
    code, _, err = said("qualify", *arguments)
    assert code == wrong
    assert text in err and err.count("\n") == 1


def test_what_to_type_and_why_it_does_not_connect(said: Said, live: WholeHouse) -> None:
    code, out, _ = said("onboard", "CP003", "--no-watch")
    port = live.stations["CP003"].link.url.rpartition(":")[2].partition("/")[0]
    assert code == 0
    assert f"ws://127.0.0.1:{port}/ocpp/CP003\n" in out
    assert "ocpp1.6 or ocpp2.0.1 or ocpp2.1" in out
    document = json.loads(said("onboard", "--json")[1])
    assert [each["station"] for each in document["stations"]] == ["CP001", "CP002", "CP003"]
    assert document["stations"][2]["urls"] == [f"ws://127.0.0.1:{port}/ocpp/CP003"]
    assert "wss:// is dropped" in said("onboard", "--no-watch", "--vendor", "autel")[1]
    assert "nothing is known about 'nobody'" in said("onboard", "--vendor", "nobody")[2]
    assert "no station 'CP9' in " in said("onboard", "CP9")[2]

    async def come_wrong() -> None:
        for path in ("ocpp/CP003/SERIAL", "ocpp/CP8"):
            with suppress(InvalidHandshake):
                async with connect(f"ws://127.0.0.1:{port}/{path}", subprotocols=None):
                    raise AssertionError("was let in")

    asyncio.run(come_wrong())
    code, out, err = said("onboard", "CP003", "--for", "2s")
    assert code == 1 and "not connected yet: CP003" in err
    out = " ".join(out.split())  # however the lines are broken
    assert "the address ends wrong" in out and "calls itself by a name that is not in the config" in out
    code, out, _ = said("onboard", "CP002", "--watch", "--for", "5s")
    assert code == 0
    assert (
        "CP002 is connected over ocpp1.6, Simulated SIM-AC 1.0.0" in out
        and "next: depot qualify CP002" in out
    )


def test_ctrl_c_lifts_everything(live: WholeHouse) -> None:
    command = [sys.executable, "-m", "controller", "qualify", CP, "--socket", str(live.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while "accepted" not in running.stdout.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 1
    assert "ended: limits, holds and cuts are lifted" in out
    assert err == ""
    assert live.runtime is not None and len(live.runtime.hearers) == 1  # who learns from what comes and goes
    assert live.view(CP).fallback_stored


def test_the_box_knows_its_own_addresses() -> None:
    assert all(
        address.count(".") == 3 and not address.startswith("127.") for address in onboard.own_addresses()
    )
