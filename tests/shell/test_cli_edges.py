"""The command line where people trip: options that do not exist, forms that exclude each other, an EVSE for a station."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from controller.cli import arguments, diagnose, egress, main


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (("flex", "limit", "50", "--for", "10m", "--circut", "row"), "usage: depot flex limit"),
        (("start", "CP001/1", "--lmit", "6 A"), "usage: depot start"),
        (("channels", "disable", "open-platform", "--yes"), "usage: depot channels disable"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_unknown_option_shows_the_usage_of_its_command(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], usage: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith(usage) and "unrecognized arguments" in said.err


def test_one_form_of_output_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sessions", "--json", "--csv"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_an_evse_names_its_station(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ask(options: argparse.Namespace, name: str, **args: object) -> Any:
        asked.append(args)
        if name == "station-history":
            raise LookupError
        return {}

    monkeypatch.setattr(diagnose, "ask", ask)
    with pytest.raises(LookupError):
        diagnose.diagnose(argparse.Namespace(station="CP001/2", json=False))
    assert asked[-1] == {"station": "CP001"}


@pytest.mark.parametrize(
    ("since", "said"),
    [(None, "nothing has left the site\n"), ("1h", "nothing has left the site since then\n")],
)
def test_an_empty_egress_book_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], since: str | None, said: str
) -> None:
    answers = {"status": {"site": {"timezone": "UTC"}}, "egress": {"egress": [], "more": False}}
    monkeypatch.setattr(egress, "ask", lambda options, name, **args: answers[name])
    assert egress.egress(argparse.Namespace(since=since, json=False)) == 0
    assert capsys.readouterr().out.endswith(said)


@pytest.mark.parametrize(
    "typed",
    [
        ("export", "--to", "mysql://depot@db/fleet"),
        ("export", "--to", "postgresql://depot:secret@db/fleet"),
        ("demo", "--speed", "500"),
        ("demo", "--plain", "--keep", "x"),
        ("meter", "probe", "nonsense://x"),
        ("meter", "probe", "tcp://127.0.0.1:1", "--kind", "nope"),
        ("ca", "issue", "CP001", "--name", "x"),
        ("ca", "sign", "a b", "x.csr"),
        ("run", "FILE", "--octt-trigger", "10.0.0.1:5001"),
        ("simulate", "FILE", "--sessions", "x.csv", "--out", "x.csv", "--set", "nonsense"),
    ],
    ids=" ".join,
)
def test_a_wrong_argument_is_wrong_use_without_a_controller(
    capsys: pytest.CaptureFixture[str], typed: Sequence[str]
) -> None:
    site = str(Path(__file__).parent / "simulated_depot.toml")
    assert main([site if each == "FILE" else each for each in typed]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1


def test_every_argument_is_explained() -> None:
    assert list(_unexplained(arguments.parser())) == []


def _unexplained(of: argparse.ArgumentParser) -> Iterator[str]:
    for each in of._actions:
        if isinstance(each, argparse._SubParsersAction):
            for name in each.choices.values():
                yield from _unexplained(name)
        elif each.help is None:
            yield f"{of.prog} {each.dest}"
