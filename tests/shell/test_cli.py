"""The command line against a running depot, without one, and with everything people mistype."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from typed import Said, typed

from controller.cli.arguments import parser

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
NIGHTS = """
schedule_id = "nights"
type = "weekly"
[[time_slots]]
day_of_week = ["mon", "tue"]
start = "22:00"
end = "06:00"
power_limit = "7.4 kW"
action = "charge"
"""


Command = Callable[..., Said]


@pytest.fixture
def depot_command(capsys: pytest.CaptureFixture[str]) -> Command:
    return partial(typed, capsys)


@pytest.fixture
def ask(depot_command: Command, live: Path) -> Command:
    return lambda *arguments: depot_command(*arguments, "--socket", str(live))


# --- looking ------------------------------------------------------------------------------------------------------


def test_status_as_a_table_in_the_sites_time(ask: Command) -> None:
    said = ask("status")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert re.fullmatch(r"Three posts  2026-11-22 19:\d\d:\d\d  auto.*", lines[0]), lines[0]
    assert lines[1].startswith("CIRCUIT")
    assert lines[2].split()[:2] == ["site", "60"]
    rows = {line.split()[0]: line.split() for line in lines[4:7]}
    assert rows.keys() == {"A/1", "B/1", "B/2"}
    assert rows["A/1"][1:3] == ["available", "32"]
    assert rows["B/1"][1] == "charging"
    assert rows["A/1"][6] == "?", "not measured is not 0"


def test_status_as_json_of_the_site_and_of_one_evse(ask: Command) -> None:
    site = ask("status", "--json")
    document = json.loads(site.out)
    assert site.code == 0
    assert document["version"] == 1
    assert ISO.fullmatch(document["time"])
    assert document["evses"][0]["measured_a"] == [None, None, None]
    one = json.loads(ask("status", "A", "--json").out)
    assert one["id"] == "A/1"
    table = ask("status", "B/1").out
    assert "B/1" in table
    assert "A/1" not in table


def test_status_of_a_stranger_is_refused(ask: Command) -> None:
    said = ask("status", "Z9")
    assert (said.code, said.out) == (1, "")
    assert said.err == "depot: no EVSE 'Z9'; `depot status` lists them\n"


def test_sessions_as_table_json_and_csv(ask: Command) -> None:
    table = ask("sessions")
    assert table.code == 0
    assert table.out.splitlines()[0].split()[:4] == ["EVSE", "VEHICLE", "TOKEN", "STARTED"]
    assert table.out.splitlines()[1].split()[:2] == ["B/1", "BUS-07"]
    rows = json.loads(ask("sessions", "--json").out)
    assert [row["evse"] for row in rows] == ["B/1"]
    assert rows[0]["ended"] is None
    assert ISO.fullmatch(rows[0]["started"])
    written = list(csv.DictReader(io.StringIO(ask("sessions", "--csv").out)))
    assert written[0]["evse"] == "B/1"
    assert written[0]["ended"] == ""
    assert written[0]["vehicle"] == "BUS-07"


def test_sessions_of_a_span(ask: Command) -> None:
    assert json.loads(ask("sessions", "--until", "2026-11-22T18:00", "--json").out) == []  # 17:00 UTC
    assert len(json.loads(ask("sessions", "--since", "2026-11-22T00:00:00Z", "--json").out)) == 1


@pytest.mark.parametrize("when", ["yesterday", "0001-01-01T00:00:00+14:00", "9999999999999 h", "", "99:99"])
def test_a_time_that_is_none_is_one_line(ask: Command, when: str) -> None:
    said = ask("sessions", "--since", when)
    assert (said.code, said.out) == (2, "")
    assert "is not a time" in said.err
    assert said.err.count("\n") == 1


def test_channels_as_table_and_json(ask: Command) -> None:
    assert ask("channels").out.split()[:2] == ["CHANNEL", "STATE"]
    assert json.loads(ask("channels", "--json").out) == []


def test_version(depot_command: Command) -> None:
    said = depot_command("version")
    assert said.code == 0
    assert re.fullmatch(r"depot \d+\.\d+\.\d+\n", said.out)


# --- acting -------------------------------------------------------------------------------------------------------


def test_every_order_prints_its_stages(ask: Command) -> None:
    for order in (
        ("start", "A", "--limit", "16 A", "--energy", "20 kWh", "--soc", "80", "--for", "1h", "--token", "04A2B3C4"),
        ("limit", "A/1", "10 A"),
        ("pause", "A/1"),
        ("resume", "A/1"),
        ("stop", "A/1"),
    ):  # fmt: skip
        said = ask(*order)
        assert (said.code, said.err) == (0, ""), order
        assert said.stages == ["sent", "accepted", "applied", "measured"], order


def test_a_limit_is_lifted_with_none(ask: Command) -> None:
    ask("limit", "B/1", "10000 mA")
    assert json.loads(ask("status", "B/1", "--json").out)["operator_limit_a"] == 10
    assert ask("limit", "B/1", "none").code == 0
    assert json.loads(ask("status", "B/1", "--json").out)["operator_limit_a"] is None


def test_a_refused_order_says_why(ask: Command) -> None:
    said = ask("stop", "B/2")
    assert said.code == 1
    assert said.err == "depot: stop B/2 refused: no session is running\n"


def test_an_order_for_an_unknown_evse_is_refused(ask: Command) -> None:
    said = ask("pause", "Z/1")
    assert (said.code, said.out) == (1, "")
    assert "no EVSE 'Z/1'" in said.err


def test_schedules_from_file_to_list_to_nothing(ask: Command, tmp_path: Path) -> None:
    file = tmp_path / "nights.toml"
    file.write_text(NIGHTS)
    assert ask("schedule", "set", "A/1", str(file)).out == "stored: nights (weekly, 1 slots)\n"
    row = ask("schedule", "list").out.splitlines()[1]
    assert row.split()[:3] == ["A/1", "nights", "weekly"]
    assert "mon tue" in row
    assert "7.4 kW" in row
    listed = json.loads(ask("schedule", "list", "A", "--json").out)
    assert listed[0]["time_slots"][0]["power_limit"] == "7.4 kW"
    assert ask("schedule", "clear", "A/1", "nights").out == "removed: nights\n"
    assert ask("schedule", "clear", "A/1").out == "removed: nothing\n"
    gone = ask("schedule", "clear", "A/1", "nights")
    assert (gone.code, "no schedule 'nights'" in gone.err) == (1, True)


def test_a_schedule_file_with_a_mistake_is_named(ask: Command, tmp_path: Path) -> None:
    for content, part in ((b"\xff", "not UTF-8"), (NIGHTS.replace("22:00", "25:00").encode(), "start")):
        file = tmp_path / "bad.toml"
        file.write_bytes(content)
        said = ask("schedule", "set", "A/1", str(file))
        assert said.code == 1
        assert f"{file}: " in said.err
        assert part in said.err
    for path in (tmp_path / "absent.toml", tmp_path):
        assert ask("schedule", "set", "A/1", str(path)).code == 1


def test_departures(ask: Command) -> None:
    soon = (datetime.now(UTC) + timedelta(days=20)).date()
    assert ask("depart", "BUS-07", "--at", f"{soon}T05:30", "--energy", "30 kWh").out == (
        f"BUS-07 departs {soon} 05:30\n"
    )
    told = ask("depart", "A/1", "--at", f"{soon}T04:30:00+00:00", "--soc", "80", "--json")
    assert json.loads(told.out)["target"] == "A/1"
    assert ask("depart", "BUS-07", "--at", "05:30", "--soc", "80").code == 0
    for target, at, code in (
        ("BUS-99", f"{soon}T05:30", 1),
        ("A/1", "2001-01-01T05:30", 2),
        ("A/1", "9999-12-31T23:59", 2),
        ("A/1", "25:99", 2),
        ("A/1", "soon", 2),
        ("A/1", "0001-01-01T00:00:00+14:00", 2),
    ):
        said = ask("depart", target, "--at", at, "--soc", "80")
        assert said.code == code, at
        assert said.err.count("\n") == 1


WRONG = [
    ("log", "--since", "abc"),
    ("log", "--station", "A"),
    ("egress", "--since", "abc"),
    ("sessions", "--until", "abc"),
    ("report", "--month", "2026-13"),
    ("report", "--out", "november.pdf"),
    ("why", "A/1", "--at", "xx"),
    ("flex", "limit", "50", "--for", "9h"),
    ("tokens", "add", "X", "--expires", "never"),
    ("tokens", "add", "X" * 37),
    ("qualify",),
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_what_is_wrong_by_itself_is_wrong_use(ask: Command, arguments: tuple[str, ...]) -> None:
    said = ask(*arguments)
    assert (said.code, said.out) == (2, ""), said.err
    assert said.err.startswith("depot: ") and said.err.count("\n") == 1


def test_what_a_program_orders_it_can_read_the_answer_of(ask: Command, tmp_path: Path) -> None:
    (tmp_path / "night.toml").write_text(NIGHTS)
    (tmp_path / "tokens.csv").write_text("token\nT-8\n")
    for arguments, key in (
        (("schedule", "set", "A/1", str(tmp_path / "night.toml")), "schedule_id"),
        (("schedule", "clear", "A/1"), "cleared"),
        (("tokens", "add", "T-7"), "stored"),
        (("tokens", "remove", "T-7"), "removed"),
        (("tokens", "import", str(tmp_path / "tokens.csv")), "stored"),
        (("alarms", "out-of-service", "A", "--reason", "away"), "source"),
        (("alarms", "in-service", "A"), "source"),
    ):
        said = ask(*arguments, "--json")
        assert (said.code, said.err) == (0, ""), arguments
        assert key in json.loads(said.out), arguments


def test_nothing_is_known_of_a_name(ask: Command) -> None:
    for arguments in (
        ("sessions", "--evse", "NOPE/1"),
        ("sessions", "--vehicle", "NOPE", "--json"),
        ("report", "--vehicle", "NOPE"),
    ):
        said = ask(*arguments)
        assert said.code == 0
        assert said.err.startswith("depot: no session of ") and "'NOPE" in said.err
    assert ask("sessions", "--evse", "A/1").err == "", "it is there, only nothing happened"


# --- without a controller -----------------------------------------------------------------------------------------

TALKING = [
    ("status",), ("status", "A/1", "--json"), ("sessions", "--csv"), ("channels",), ("start", "A/1"), ("stop", "A/1"),
    ("pause", "A/1"), ("resume", "A/1"), ("limit", "A/1", "none"), ("schedule", "list"),
    ("schedule", "clear", "A/1"), ("depart", "A/1", "--at", "05:30", "--soc", "80"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", TALKING, ids=" ".join)
def test_a_controller_that_is_away_is_exit_code_3(
    depot_command: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = depot_command(*arguments, "--socket", str(tmp_path / "nobody.sock"))
    assert (said.code, said.out) == (3, "")
    assert said.err.count("\n") == 1
    assert "nobody.sock" in said.err
    assert "is `depot run` running" in said.err


def test_the_socket_comes_from_the_environment_and_the_option_wins(
    depot_command: Command, live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPOT_SOCKET", str(live))
    assert depot_command("status").code == 0
    assert depot_command("status", "--socket", str(tmp_path / "nobody.sock")).code == 3
    monkeypatch.delenv("DEPOT_SOCKET")
    assert "/run/depot/control.sock" in depot_command("status").err


# --- wrong use ----------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, ...]]:
    """Every command and sub-command that can be typed."""

    def below(at: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        kinds = [action for action in at._actions if isinstance(action, argparse._SubParsersAction)]
        if not any(kind.required for kind in kinds):
            yield words
        first = tuple("CP001" for action in at._actions if not action.option_strings and action not in kinds)
        for kind in kinds:
            for name, made in kind.choices.items():
                yield from below(made, (*words, *first, name))

    yield from below(parser(), ())


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_help_of_every_command_has_an_example(depot_command: Command, words: tuple[str, ...]) -> None:
    said = depot_command(*words, "--help")
    assert said.code == 0
    assert f"Example: depot {' '.join(words)}" in " ".join(said.out.split())


def test_the_help_of_all_names_every_command(depot_command: Command) -> None:
    said = depot_command("--help")
    assert said.code == 0
    for words in commands():
        assert words[0] in said.out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "COMMAND"),
        (("fly",), "invalid choice"),
        (("status", "--speed"), "--speed"),
        (("limit", "A/1"), "CURRENT"),
        (("limit", "A/1", "16"), 'write it like "16 A"'),
        (("limit", "A/1", "16 kW"), "current unit"),
        (("limit", "A/1", "--", "-16 A"), "below zero"),
        (("limit", "A/1", "9" * 400 + " A"), "too large"),
        (("start", "A/1", "--energy", "20"), 'like "30 kWh"'),
        (("start", "A/1", "--soc", "101"), "0 to 100"),
        (("start", "A/1", "--for", "soon"), 'like "90 s"'),
        (("depart", "A/1", "--soc", "80"), "--at"),
        (("depart", "A/1", "--at", "05:30"), "--energy"),
        (("depart", "A/1", "--at", "05:30", "--soc", "80", "--energy", "1 kWh"), "not allowed with"),
        (("demo", "--chargers", "51"), "1 to 50"),
        (("demo", "--speed", "nan"), "1 to 1000"),
        (("demo", "--days", "0"), "1 to 31"),
        (("schedule",), "WHAT"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_use_is_exit_code_2(depot_command: Command, arguments: tuple[str, ...], part: str) -> None:
    said = depot_command(*arguments)
    assert (said.code, said.out) == (2, "")
    assert part in said.err


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "No such file"), ("site = [", "depot.toml"), ("[site]\nname = 3\n", "depot.toml")],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_config_that_cannot_be_used_is_told_line_by_line(
    depot_command: Command, tmp_path: Path, command: str, content: str | None, part: str
) -> None:
    file = tmp_path / "depot.toml"
    if content is not None:
        file.write_text(content)
    said = depot_command(command, str(file))
    assert (said.code, said.out) == (1, "")
    assert part in said.err
    assert all(line.startswith("depot: ") for line in said.err.splitlines())
