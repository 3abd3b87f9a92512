"""`depot init`: through a pipe and at a terminal, with real meters and chargers that knock; what it writes is a config."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import io
import os
import pty
import signal
import socket
import stat
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from test_modbus_lines import example, serving

from controller.cli import init as init_command
from controller.cli import init_finds, main
from controller.cli.init import guessed_zone
from controller.config import fallback_budget, load
from controller.config.draft import Draft, DraftCircuit, DraftStation, with_fallbacks, written
from controller.config.values import Wrong
from controller.core.model import SITE, EvseId
from drivers.modbus import line, probe
from drivers.modbus.device import Device
from drivers.ocpp.server import OcppServer

WITHIN_S = 20.0
SITE_TOLD = ["Depot Süd", "Europe/Berlin", "", "yes", "63 A", "none", "20"]
NO_CIRCUITS = [""]
CHARGERS = ["", "0", "CP001", "2", "", "", "CP002", "1", "16 A", "L2", ""]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.probe, "__defaults__", (0.15,))
    monkeypatch.setattr(Device, "settle_s", 0.0)
    monkeypatch.setattr(line, "PAUSE_S", 0.001)


def told(monkeypatch: pytest.MonkeyPatch, path: Path, *answers: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    return main(["init", str(path)])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- through a pipe -------------------------------------------------------------------------------------------------


def test_answers_become_a_config_that_passes_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "depot.toml"
    assert told(monkeypatch, path, *SITE_TOLD, *NO_CIRCUITS, *CHARGERS, "yes") == 0
    said = capsys.readouterr().out
    config = load(path)
    assert (config.site.name, config.site.timezone, config.site.voltage_mv) == (
        "Depot Süd",
        "Europe/Berlin",
        230_000,
    )
    assert config.site.circuits[SITE].limit_ma.l1 == 63_000
    assert set(config.site.evses) == {"CP001/1", "CP001/2", "CP002/1"}
    assert config.site.evses[EvseId("CP002/1")].phases == (1,)
    assert files(tmp_path) == {"depot.toml", "CP001.secret", "CP002.secret"}
    for name in ("CP001.secret", "CP002.secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert (tmp_path / name).read_text().strip() not in said, "passwords are never shown"
    assert (tmp_path / "CP001.secret").read_text() != (tmp_path / "CP002.secret").read_text()
    assert path.read_text() in said
    assert "Fallback budget" in said and "depot onboard CP001" in said
    assert main(["check", str(path)]) == 0


def test_fallbacks_are_proposed_so_that_every_fuse_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "depot.toml"
    row = ["row_a", "", "13 A", "none", "", ""]
    posts = [word for name in ("P1", "P2", "P3") for word in (name, "row_a", "1", "", "")]
    assert told(monkeypatch, path, *SITE_TOLD, *row, "", "0", *posts, "", "yes") == 0
    site = load(path).site
    assert [site.evses[EvseId(f"P{n}/1")].fallback_ma for n in (1, 2, 3)] == [6_000, 6_000, 0]
    assert all(min(budget.spare_ma or (0,)) >= 0 for budget in fallback_budget(site))
    assert "P3 pauses when it is left alone" in capsys.readouterr().out


def test_for_the_installed_service_secrets_lie_where_systemd_takes_them_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "credentials").mkdir(mode=0o700)
    site = [word if word != "yes" else "no" for word in SITE_TOLD]
    assert told(monkeypatch, tmp_path / "depot.toml", *site, *NO_CIRCUITS, *CHARGERS, "yes") == 0
    assert files(tmp_path) == {"depot.toml", "credentials"}
    assert files(tmp_path / "credentials") == {"CP001.secret", "CP002.secret"}
    config = load(tmp_path / "depot.toml")
    assert config.storage_path == Path("/var/lib/depot")
    assert "systemctl enable --now depot" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(20))
def test_proposed_fallbacks_always_fit(seed: int) -> None:
    sizes = [(seed * 7 + n * 13) % 40 + 6 for n in range(4)]
    circuits = (
        DraftCircuit(SITE, None, 63_000, 30_000 + 1000 * (seed % 34)),
        DraftCircuit("a", SITE, 1000 * sizes[0], 0),
        DraftCircuit("b", "a", 1000 * sizes[1], 1000 * (seed % 6)),
    )
    homes, phases = (SITE, "a", "b"), ("L1 L2 L3", "L2", "L3 L1")
    stations = tuple(
        DraftStation(f"S{n}", homes[(n + seed) % 3], n % 3 + 1, 32_000, phases[n * seed % 3])
        for n in range(9)
    )
    draft = with_fallbacks(Draft("S", "UTC", "230 V", circuits, stations))
    for circuit, below in (("b", {"b"}), ("a", {"a", "b"}), (SITE, set(homes))):
        node = next(each for each in circuits if each.id == circuit)
        for phase in ("L1", "L2", "L3"):
            mine = [s for s in draft.stations if s.circuit in below and phase in s.phases]
            assert sum(s.fallback_ma * s.evses for s in mine) <= node.limit_ma - node.assumed_ma
    assert 'fallback = "' in written(draft)


def test_what_is_there_stays_unless_a_person_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "depot.toml"
    path.write_text("precious")
    assert told(monkeypatch, path, "") == 1
    assert told(monkeypatch, path, "yes", *SITE_TOLD, *NO_CIRCUITS, *CHARGERS, "no") == 1
    assert path.read_text() == "precious" and files(tmp_path) == {"depot.toml"}
    (tmp_path / "CP001.secret").write_text("the-charger-has-this-one\n")
    (tmp_path / "CP001.secret").chmod(0o600)
    assert told(monkeypatch, path, "yes", *SITE_TOLD, *NO_CIRCUITS, *CHARGERS, "yes") == 0
    assert load(path).site.name == "Depot Süd"
    assert (tmp_path / "CP001.secret").read_text() == "the-charger-has-this-one\n"


@pytest.mark.parametrize(
    ("answers", "part"),
    [
        ([], "Name of the site"),
        (["S", "Europe/Berlim"], "Europe/Berlin"),
        (["S", "", "400 V"], "to neutral"),
        (["S", "", "", "maybe"], "answer yes, no"),
        (["S", "", "", "yes", "0 A"], "feeds nothing"),
        (["S", "", "", "yes", "63 A", "10.0.0.0/8"], "too many hosts"),
        (["S", "", "", "yes", "63 A", "what is this"], "is no host"),
        (["S", "", "", "yes", "63 A", "none", "64 A"], "more than the fuse carries"),
        ([*SITE_TOLD, "row a"], "is not an id"),
        ([*SITE_TOLD, "site"], "is taken"),
        ([*SITE_TOLD, "row_a", "row_b"], "answer site"),
        ([*SITE_TOLD, "", "99999"], "whole number from 1 to 65535"),
        ([*SITE_TOLD, "", "", "0", "CP001", "0"], "whole number from 1 to 20"),
        ([*SITE_TOLD, "", "", "0", "CP001", "1", "5 A"], 'the least is "6 A"'),
        ([*SITE_TOLD, "", "", "0", "CP001", "1", "", "L4"], "list of phases"),
    ],
)
def test_a_wrong_answer_through_a_pipe_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: Sequence[str],
    part: str,
) -> None:
    assert told(monkeypatch, tmp_path / "depot.toml", *answers) == 1
    err = capsys.readouterr().err
    assert part in err and "nothing was written" in err
    assert err.count("\n") == 1
    assert files(tmp_path) == set()


def test_a_folder_that_is_not_there_or_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, tmp_path / "no" / "depot.toml") == 1
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "CP002.secret").mkdir()
    assert told(monkeypatch, tmp_path / "depot.toml", *SITE_TOLD, *NO_CIRCUITS, *CHARGERS, "yes") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert files(tmp_path) == {"CP002.secret"}


def test_assumed_loads_below_are_part_of_those_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ["row_a", "", "40 A", "none", "30 A", ""]
    assert told(monkeypatch, tmp_path / "depot.toml", *SITE_TOLD, *row, "", "0", "", "yes") == 0
    assert load(tmp_path / "depot.toml").site.circuits[SITE].assumed_load_ma == (30_000, 30_000, 30_000)
    assert "raised to 30 A" in capsys.readouterr().out


def test_the_zone_of_this_box(tmp_path: Path) -> None:
    assert guessed_zone(tmp_path) == "UTC"
    (tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")
    assert guessed_zone(tmp_path) == "Europe/Paris"
    (tmp_path / "timezone").write_text("Europe/Madrid\n")
    assert guessed_zone(tmp_path) == "Europe/Madrid"


# --- meters -----------------------------------------------------------------------------------------------------------


async def test_a_meter_is_found_chosen_and_not_offered_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving({1: example("b23")}) as peer, serving({1: example("em24")}) as other:
        both = f"tcp://127.0.0.1:{peer.port}/1, 127.0.0.1:{other.port}, 127.0.0.1:1"
        answers = [
            "S",
            "UTC",
            "",
            "yes",
            "63 A",
            both,
            "1",
            "20 A",
            "row_a",
            "",
            "32 A",
            both,
            "1",
            "",
            "",
            "0",
            "",
            "yes",
        ]
        code = await asyncio.to_thread(told, monkeypatch, tmp_path / "depot.toml", *answers)
    said = capsys.readouterr().out
    assert code == 0, said
    config = load(tmp_path / "depot.toml")
    assert {(m.id, m.kind, m.port) for m in config.meters} == {
        ("main", "b23", peer.port),
        ("row_a", "em24", other.port),
    }
    assert f"1  tcp://127.0.0.1:{peer.port}/1" in said


async def test_no_meter_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{nobody.getsockname()[1]}"
        answers = ["S", "UTC", "", "yes", "63 A", at]
        assert await asyncio.to_thread(told, monkeypatch, tmp_path / "depot.toml", *answers) == 1
    assert "no meter for the grid connection" in capsys.readouterr().err


def test_what_can_be_named_as_a_place_to_look() -> None:
    assert len(init_finds.addresses("10.0.4.0/28")) == 14
    assert [
        str(one) for one in init_finds.addresses("meter.local, rtu:///dev/ttyUSB0?baud=19200&parity=E/3")
    ] == [
        "tcp://meter.local:502/1",
        "rtu:///dev/ttyUSB0?baud=19200&parity=E/3",
    ]
    for wrong in ("10.0.0.0/8", "::/64", "10.0.4.300/24", "a b", "tcp://x/999", "10.0.0.0/24, 10.0.1.0/24"):
        with pytest.raises(Wrong):
            init_finds.addresses(wrong)


# --- chargers ---------------------------------------------------------------------------------------------------------


async def knock(port: int, path: str) -> None:
    """As a charger does that nobody knows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    word = base64.b64encode(b"CP-9:guess").decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ocpp1.6\r\nAuthorization: Basic {word}\r\n\r\n".encode()
    )
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_chargers_that_knock_are_heard_and_nobody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[OcppServer] = []
    made = OcppServer.__init__

    def remember(self: OcppServer, *args: object) -> None:
        servers.append(self)
        made(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(OcppServer, "__init__", remember)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    lines: list[str] = []
    listening = asyncio.create_task(init_finds.knocks(0, 1.5, lines.append))
    await asyncio.sleep(0)  # it has begun
    await servers[0].ready()
    for path in ("/ocpp/CP-9", "/ocpp/CP-9", "/ocpp/", "/CP-8"):
        await knock(servers[0].port, path)
    found = await listening
    assert found == {"CP-9": "127.0.0.1", "CP-8": "127.0.0.1"}
    assert lines == ["  CP-9 knocks from 127.0.0.1", "  CP-8 knocks from 127.0.0.1"]


# --- at a terminal ------------------------------------------------------------------------------------------------------


class Terminal:
    def __init__(self, end: int, process: asyncio.subprocess.Process) -> None:
        self.end, self.process = end, process
        self.shown = ""

    def read(self) -> None:
        try:
            self.shown += os.read(self.end, 65_536).decode(errors="replace")
        except OSError:  # the other end is gone
            asyncio.get_running_loop().remove_reader(self.end)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    async def answer(self, question: str, line: str) -> None:
        """Types once the newest question is this one."""
        await self.until(lambda: question in self.shown.replace("\r", "").rpartition("\n")[2])
        self.shown += "\n"
        os.write(self.end, f"{line}\n".encode())


@asynccontextmanager
async def terminal(path: Path) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "controller", "init", str(path)]
    environ = {**os.environ, "TERM": "linux", "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    screen = Terminal(ours, process)
    asyncio.get_running_loop().add_reader(ours, screen.read)
    try:
        yield screen
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)


async def test_at_a_terminal_a_wrong_answer_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "depot.toml"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with terminal(path) as screen:
        await screen.answer("Name of the site", "Nord")
        await screen.answer("Time zone", "Mars")
        await screen.answer("Time zone", "UTC")
        for question, line in (
            ("Voltage", ""),
            ("beside the file", "yes"),
            ("Fuse", "100"),
            ("Meter", ""),
            ("other loads", ""),
        ):
            await screen.answer(question, line)
        await screen.answer("A circuit below", "")
        await screen.answer("Port for OCPP", str(port))
        await screen.answer("Seconds to listen", "60")
        await screen.until(lambda: "Enter when all have knocked" in screen.shown)
        async with asyncio.timeout(WITHIN_S):
            while "CP-9 knocks" not in screen.shown:
                try:
                    await knock(port, "/ocpp/CP-9")
                except ConnectionError:
                    await asyncio.sleep(0.05)  # not listening yet
        os.write(screen.end, b"\n")
        for question, line in (
            ("Take CP-9 in", ""),
            ("at once", ""),
            ("most per vehicle", ""),
            ("phases", ""),
            ("A charger", ""),
            ("Write this", ""),
        ):
            await screen.answer(question, line)
        async with asyncio.timeout(WITHIN_S):
            assert await screen.process.wait() == 0
    assert 'time zone "Mars" does not exist' in screen.shown
    assert set(load(path).site.evses) == {"CP-9/1"}
    assert "# knocked from 127.0.0.1" in path.read_text()


@pytest.mark.parametrize("at", ["Name of the site", "Port for OCPP", "Write this"])
async def test_ctrl_c_leaves_nothing(tmp_path: Path, at: str) -> None:
    script = [
        ("Name of the site", ""), ("Time zone", "UTC"), ("Voltage", ""), ("beside the file", "yes"), ("Fuse", "63"),
        ("Meter", ""), ("other loads", ""), ("A circuit below", ""), ("Port for OCPP", ""), ("Seconds to listen", "0"),
        ("A charger", "CP001"), ("at once", ""), ("most per vehicle", ""), ("phases", ""), ("A charger", ""),
    ]  # fmt: skip
    async with terminal(tmp_path / "depot.toml") as screen:
        for question, line in script:
            if question == at:
                break
            await screen.answer(question, line)
        await screen.until(lambda: at in screen.shown.rpartition("\n")[2])
        os.write(screen.end, b"\x03")
        async with asyncio.timeout(WITHIN_S):
            assert await screen.process.wait() == 1
        await screen.until(lambda: "stopped; nothing was written" in screen.shown)
    assert files(tmp_path) == set()
    assert "Traceback" not in screen.shown


def test_a_signal_between_the_files_waits_for_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    put = os.replace

    def replace(source: Path, target: Path) -> None:
        put(source, target)
        moved.append(target.name)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", replace)
    draft = Draft(
        "S",
        "UTC",
        "230 V",
        (DraftCircuit(SITE, None, 63_000, 0),),
        (DraftStation("A", SITE, 1, 16_000, "L1"),),
    )
    with pytest.raises(KeyboardInterrupt):
        init_command.write(draft, tmp_path / "depot.toml")
    assert moved == ["A.secret", "depot.toml"]
    assert files(tmp_path) == {"A.secret", "depot.toml"}
