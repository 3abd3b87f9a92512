"""Viewers, operators and nobody: real peers of a real socket, children under another user where this one may become it."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, DEADLINE_S, SmallDepot, caller, small_depot

from controller import console as console_module
from controller.access_book import AUDITED_HERE
from controller.calls import takes
from controller.cli import main
from controller.config import ConfigError, load
from controller.rights import EVERYONE, OPERATORS, VIEWERS, Peer, Rights
from tests.audit_rows import audit_tail

STRANGER = 54_321  # a uid and gid that no user of a box has
AS = """
import json, os, socket, sys
uid, groups, path, lines = json.loads(sys.argv[1])
os.setgroups(groups), os.setgid(uid), os.setuid(uid)
with socket.socket(socket.AF_UNIX) as end:
    end.connect(path)
    reader = end.makefile()
    for line in lines:
        end.sendall(line.encode() + b"\\n")
        print(reader.readline().strip(), flush=True)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Lets other users through; those of pytest do not."""
    with tempfile.TemporaryDirectory(prefix="depot-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
async def open_depot(open_folder: Path) -> AsyncIterator[SmallDepot]:
    async with small_depot(open_folder) as running:
        await running.connect_stations()
        yield running


async def said(
    depot: SmallDepot, uid: int, groups: list[int], *calls: tuple[str, dict[str, object]]
) -> list[Any]:
    """What a process of that user hears for each call."""
    lines = [json.dumps({"id": 7, "call": name, "args": args}) for name, args in calls]
    given = json.dumps([uid, groups, str(depot.socket), lines])
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", AS, given, stdout=subprocess.PIPE)
    async with asyncio.timeout(DEADLINE_S):
        out, _ = await child.communicate()
    return [json.loads(line) if line else None for line in out.decode().splitlines()]


def groups(monkeypatch: pytest.MonkeyPatch, members: dict[str, tuple[int, list[str]]]) -> None:
    """The user database knows these groups."""

    def find(name: str) -> grp.struct_group:
        if name not in members:
            raise KeyError(name)
        return grp.struct_group((name, "x", *members[name]))

    monkeypatch.setattr(grp, "getgrnam", find)


async def audited(depot: SmallDepot, what: str) -> list[tuple[str, str]]:
    rows = await audit_tail(depot.runtime.ledger, 50)
    return [(row["by"], row["subject"]) for row in rows if row["what"] == what]


@as_root
async def test_a_stranger_is_told_so_in_one_line_and_hung_up_on(open_depot: SmallDepot) -> None:
    first, *later = await said(open_depot, STRANGER, [], ("status", {}), ("status", {}))
    assert first["error"]["code"] == "not-allowed"
    assert first["error"]["text"] == (
        f"{STRANGER} may not look; join the group {VIEWERS}, or {OPERATORS} to act"
    )
    assert later in ([], [None])


@as_root
async def test_a_viewer_looks_and_is_refused_to_act(
    open_depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups(monkeypatch, {VIEWERS: (60_001, [])})
    me, status, stop, again = await said(
        open_depot,
        STRANGER,
        [60_001],
        ("whoami", {}),
        ("status", {}),
        ("stop", {"evse": A1}),
        ("stop", {"evse": A1}),
    )
    why = f"{STRANGER} may look but not act; join the group {OPERATORS}"
    assert me["ok"] == {"name": str(STRANGER), "role": "viewer", "why": why}
    assert status["ok"]["site"]["name"] == "Three posts"
    assert stop["error"]["text"] == f"{STRANGER} may look but not act; join the group {OPERATORS}"
    assert again == stop
    await open_depot.clock.advance(1.0)
    assert await audited(open_depot, "not-allowed") == [(str(STRANGER), "stop")], "once, not once per try"
    assert await audited(open_depot, "stop-refused") == [], "it never came to an order"


@as_root
async def test_an_operator_is_one_by_the_groups_of_the_process(
    open_depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups(monkeypatch, {OPERATORS: (60_002, [])})
    me, limit = await said(
        open_depot, STRANGER, [7, 60_002], ("whoami", {}), ("limit", {"evse": A1, "limit_ma": 8_000})
    )
    assert me["ok"]["role"] == "operator"
    assert "order" in limit["ok"]
    await open_depot.clock.advance(1.0)
    assert await audited(open_depot, "limit") == [(str(STRANGER), A1)]


@as_root
async def test_a_stranger_who_only_hangs_on_takes_no_clients_place(
    open_depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "CLIENTS", 1)
    monkeypatch.setattr(console_module, "STRANGER_S", 30.0)
    mine = Rights.peer
    monkeypatch.setattr(Rights, "peer", lambda *_: Peer("nobody", False, False))
    async with caller(open_depot.socket) as stranger:
        assert (await stranger.hear())["error"]["code"] == "not-allowed"
        monkeypatch.setattr(Rights, "peer", mine)
        async with caller(open_depot.socket) as client:
            assert await client.call("status")


@as_root
async def test_everyone_may_look_where_the_config_says_so(
    open_depot: SmallDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Rights(viewers=EVERYONE)
    monkeypatch.setattr(Rights, "peer", lambda _, sock, peer=Rights.peer: peer(theirs, sock))
    (me,) = await said(open_depot, STRANGER, [], ("whoami", {}))
    assert me["ok"]["role"] == "viewer"


@pytest.mark.parametrize("name", sorted(AUDITED_HERE))
async def test_what_leaves_no_other_trace_is_audited_by_the_console(tmp_path: Path, name: str) -> None:
    async with small_depot(tmp_path) as depot:

        @takes("evse")
        async def nothing(args: object, peer: object) -> object:
            return {}

        other = console_module.Console(depot.runtime, tmp_path / "other.sock", {name: (True, nothing)})
        task = asyncio.create_task(other.run())
        await depot.until((tmp_path / "other.sock").exists)
        async with caller(tmp_path / "other.sock") as client:
            await client.call(name, evse=A1)
            me = await client.call("whoami")
        await depot.clock.advance(1.0)
        assert await audited(depot, name) == [(me["name"], A1)]
        task.cancel()
        await asyncio.wait({task})


# --- the config -----------------------------------------------------------------------------------------------------

SITE = """
[site]
name = "S"
timezone = "Europe/Amsterdam"
limit = "63 A"
assumed_load = "20 A"
[ocpp]
listen = "127.0.0.1:0"
[station.A]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "16 A" }
ocpp = { allow_insecure = true }
"""


def test_the_config_names_the_groups(tmp_path: Path) -> None:
    file = tmp_path / "depot.toml"
    file.write_text(SITE + '[control]\noperators = "night-shift"\nviewers = "everyone"\n')
    assert load(file).rights == Rights("night-shift", EVERYONE)
    file.write_text(SITE)
    assert load(file).rights == Rights(OPERATORS, VIEWERS)


@pytest.mark.parametrize(
    "line", ['operators = "everyone"', 'operators = "No Group"', "viewers = 7", 'viewers = ""']
)
def test_a_name_that_is_no_group_is_a_problem(tmp_path: Path, line: str) -> None:
    file = tmp_path / "depot.toml"
    file.write_text(SITE + f"[control]\n{line}\n")
    with pytest.raises(ConfigError, match="control"):
        load(file)


def test_the_command_says_it_in_one_line_and_exits_with_1(
    live: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Rights, "peer", lambda *_: Peer("guest", operator=False))
    assert main(["stop", "B/1", "--socket", str(live)]) == 1
    assert capsys.readouterr().err == f"depot: guest may look but not act; join the group {OPERATORS}\n"
    assert main(["status", "--socket", str(live)]) == 0
    capsys.readouterr()
    monkeypatch.setattr(Rights, "peer", lambda *_: Peer("guest", operator=False, viewer=False))
    for _ in range(20):  # whichever side is faster, the answer is read
        assert main(["status", "--socket", str(live)]) == 1
        assert "guest may not look" in capsys.readouterr().err
