"""What `depot check` prints for the valid depot, character by character, and that it stays within 80
columns."""

from __future__ import annotations

from pathlib import Path

from controller.config import describe, load

DESCRIBED = (Path(__file__).parent / "described.txt").read_text()


def test_the_valid_depot_as_described(write_config, valid, tmp_path):
    text = valid.replace('path = "data"', 'path = "/data"').replace(
        'socket = "control.sock"', 'socket = "/run/c.sock"'
    )
    assert describe(load(write_config(text))) + "\n" == DESCRIBED


def test_an_unknown_load_and_an_empty_depot_are_said_in_words(write_config):
    shown = describe(
        load(
            write_config(
                '[site]\nname = "Yard"\ntimezone = "UTC"\nlimit = "63 A"\nmeter = "m"\n'
                '[meter.m]\nkind = "b23"\naddress = "tcp://[fe80::1]:1502/7"\n'
            )
        )
    )
    assert "site  63 A, meter m, unknown load: all at fallback while blind" in shown
    assert "m      b23   [fe80::1]:1502/7  grid" in shown
    assert "site     each   63 A   unknown  0 A        unknown" in shown
    assert "none: nothing is controlled" in shown
    assert "Stations" not in shown


def test_no_line_is_longer_than_80_columns_and_nothing_is_cut(write_config, valid):
    station = "S" * 48
    text = valid.replace("CP003", station).replace("row_a", "r" * 48).replace("10.0.4.20", "h" * 60)
    shown = describe(load(write_config(text)))
    assert max(map(len, shown.splitlines())) <= 80
    joined = "".join(shown.split())
    assert all(word in joined for word in (station, "r" * 48, "h" * 60))


def test_no_secret_is_printed(write_config, valid):
    shown = describe(load(write_config(valid)))
    assert "correct horse" not in shown
    assert "battery staple" not in shown
