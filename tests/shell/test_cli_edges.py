"""The command line where people trip: options that do not exist, forms that exclude each other, an EVSE for a station."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import pytest

from controller.cli import diagnose, egress, main


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
