"""[open_platform.readings]: every setting by name, its type and range, and what `depot check` shows of it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_origin, get_type_hints

import pytest

from controller.cli import main
from controller.cli import readings as table
from controller.cli.compose import House
from controller.cli.firmware import _judged
from controller.clock import SystemClock
from controller.config import ConfigError, describe, load
from controller.config.readings import written
from controller.core.readings import Readings, changed, gaps_by_setting

KINDS = get_type_hints(Readings)
GAPS = gaps_by_setting()
NUMBERS = [name for name, kind in KINDS.items() if kind in (int, float)]


def another(name: str) -> Any:
    """An allowed value that is not the default."""
    gap, kind, default = GAPS[name], KINDS[name], getattr(Readings(), name)
    if kind is bool:
        return not default
    if kind in (int, float):
        return kind(gap.least if default != gap.least else gap.most)
    if kind is str:
        return {"firmware_gate": "260518.0002", "signature_time_header": "X-Time"}[name]
    return next(choice for choice in kind.__args__ if choice != default)


def in_toml(value: object) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )


def below(valid: str, lines: str) -> str:
    return valid.replace(
        "[open_platform.cloud]", f"[open_platform.readings]\n{lines}\n\n[open_platform.cloud]"
    )


def problems(write_config, valid: str, lines: str) -> list[str]:
    text = below(valid, lines)
    first = text.splitlines().index("[open_platform.readings]") + 2
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    assert [p.line for p in caught.value.problems] == list(range(first, first + len(lines.splitlines())))
    return [str(problem) for problem in caught.value.problems]


def test_without_the_table_every_default_holds(write_config, valid):
    config = load(write_config(valid))
    assert config.readings == config.open_platform.readings == Readings()
    assert "Readings" not in describe(config)


def test_every_setting_can_be_set_by_its_name(write_config, valid):
    wanted = Readings(**{each.name: another(each.name) for each in fields(Readings)})
    lines = "\n".join(f"{each.name} = {in_toml(another(each.name))}" for each in fields(Readings))
    config = load(write_config(below(valid, lines)))
    assert config.readings == wanted
    assert {name for _, name, _, _ in changed(config.readings)} == {each.name for each in fields(Readings)}


def test_defaults_lie_within_their_ranges():
    for name in NUMBERS:
        assert GAPS[name].least < GAPS[name].most, name
        assert GAPS[name].least <= getattr(Readings(), name) <= GAPS[name].most, name
    assert all(get_origin(KINDS[n]) or KINDS[n] in (bool, str) for n in KINDS.keys() - set(NUMBERS))


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("side", ["least", "most"])
def test_a_number_ends_at_its_range(name, side, write_config, valid):
    edge = getattr(GAPS[name], side)
    inside = int(edge) if KINDS[name] is int else edge
    assert getattr(load(write_config(below(valid, f"{name} = {inside}"))).readings, name) == edge
    step = max(1, abs(inside) // 100)
    beyond = inside - step if side == "least" else inside + step
    [said] = problems(write_config, valid, f"{name} = {beyond}")
    assert said.startswith(f"open_platform.readings.{name}: ") and "outside" in said and GAPS[name].id in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("discharge_floor_soc = 15", "15 is outside 20 to 100; G-14"),
        ("command_expiry_s = 121", "121 is outside 10 to 120; G-08"),
        ("clock_skew_s = 90", "90 is outside 30 to 60; G-29"),
        ('silence_s = "30 s"', '"30 s" is not a number; write the number alone, 10 to 60'),
        ("silence_s = true", "true is not a number"),
        ("silence_s = nan", "nan is outside"),
        ("stream_ids = 2.5", "2.5 is not a whole number"),
        ("idle_stays_idle = 1", "1 is neither true nor false"),
        ('flex_base = "conector"', '"conector" is not known here; did you mean "connector"?'),
        ('firmware_gate = "3.1.0"', '"3.1.0" cannot be used here; write it like "260420.0107"'),
        ('firmware_gate = "260419.9999"', '"260419.9999" is below "260420.0107"'),
        ('signature_time_header = "X-Signature"', "cannot be used here"),
        ('signature_time_header = "Authorization"', "cannot be used here"),
        ('signature_time_header = "X-A\\nHost"', "invisible"),
        ("stream_idz = 5", 'unknown key; did you mean "stream_ids"?'),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(line, said, write_config, valid):
    [problem] = problems(write_config, valid, line)
    assert said in problem


def test_all_mistakes_are_told_at_once(write_config, valid):
    said = problems(write_config, valid, 'silence_s = "x"\nstream_ids = 0\nno_such_thing = 1')
    assert len(said) == 3


def test_something_else_than_a_table_is_refused(write_config, valid):
    text = valid.replace("[open_platform.cloud]", "readings = 5\n\n[open_platform.cloud]")
    with pytest.raises(ConfigError, match=r"5 is not a table; write it as \[open_platform.readings\]"):
        load(write_config(text))


def test_check_names_what_differs_with_its_gap(write_config, valid):
    config = load(write_config(below(valid, 'silence_s = 45\nflex_base = "connector"')))
    said = describe(config)
    assert 'G-12  flex_base = "connector" (default "charger")\n' in said
    assert "G-15  silence_s = 45 (default 30)\n" in said
    assert said.count("(default ") == 2
    assert all(len(line) <= 80 for line in said.splitlines())


def test_the_whole_table_shows_every_gap_and_value(write_config, valid):
    readings = load(write_config(below(valid, "silence_s = 45"))).readings
    said = table.describe(readings)
    assert [f"G-{n:02}" in said for n in range(1, 35)] == [True] * 34
    for each in fields(Readings):
        assert f"        {each.name} = {written(getattr(readings, each.name))}" in said
    assert said.count("(default ") == 1 and "silence_s = 45  (default 30)" in said


def test_the_drivers_get_what_the_config_says(write_config, valid, onsite_files):
    text = below(valid, 'firmware_gate = "260518.0002"\nsilence_s = 45') + (
        '\n[open_platform.onsite]\nlisten = "127.0.0.1:0"\n'
        '[station.CP009]\ncircuit = "row_b"\nfallback = "0 A"\nevse.1 = { max = "16 A" }\n'
        'open_platform = { serial = "TP-9", model = "M", link = "onsite" }\n'
    )
    config = load(write_config(text))
    wanted = replace(Readings(), firmware_gate="260518.0002", silence_s=45.0)
    house = House(config, SystemClock())
    assert [switch._driver._settings.readings for switch in house.switches] == [wanted, wanted]


def test_depot_check_shows_the_table(write_config, valid, capsys):
    path = write_config(below(valid, "silence_s = 45"))
    assert main(["check", str(path), "--readings"]) == 0
    assert capsys.readouterr().out == table.describe(load(path).readings) + "\n"


def test_the_gate_that_firmware_is_judged_by_is_the_configs():
    station = {"id": "A", "firmware": "260518.0002", "channel": "open-platform/cloud", "companion": None}
    judged = [_judged(station, {}, gate) for gate in (Readings().firmware_gate, "270101.0000")]
    assert [each["passes_gate"] for each in judged] == [True, False]
    assert judged[1]["second_backend"] == "not proven: older than 270101.0000"
