"""Registers to numbers: every type and order, what means "no value", and every meter file against its own example."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.model import MeterId
from drivers.errors import Misconfigured, Nonsense
from drivers.modbus import find, guards, kinds, maps
from drivers.modbus.installed import MeterSettings, reading
from drivers.modbus.registers import (
    READ_HOLDING,
    READ_INPUT,
    Block,
    Bound,
    Example,
    Measured,
    MeterMap,
    Order,
    Register,
    Type,
    Unit,
    decode,
    halves,
    number,
    unfit,
)
from drivers.modbus.sunspec import ModelFile

WIDE = [one for one in Type if one.words > 1]
INTEGERS = [one for one in Type if one not in (Type.F32, Type.F64, Type.ACC32)]
VOLTS = Register(0, Type.U16, Unit.V)


def at(address: int, *raw: int) -> dict[int, int]:
    return dict(enumerate(raw, address))


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        (Type.U16, (0xFFFE,), 65534),
        (Type.I16, (0xFF38,), -200),
        (Type.I16, (0xFFFF,), -1),  # all ones is a value for a signed type
        (Type.U32, (0x0001, 0x0002), 65538),
        (Type.I32, (0xFFFF, 0xFF9C), -100),
        (Type.U64, (0x0000, 0x0001, 0x0000, 0x0002), 4294967298),
        (Type.I64, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE), -2),
        (Type.F32, (0x4366, 0x3334), 230.20001220703125),  # the example in Eastron's manual
        (Type.F64, (0x4080, 0xA000, 0x0000, 0x0000), 532.0),
    ],
)
def test_types_in_both_orders(kind: Type, raw: tuple[int, ...], expected: float) -> None:
    assert number(Register(7, kind, Unit.W), at(7, *raw)) == expected
    assert number(Register(7, kind, Unit.W, order=Order.LO), at(7, *reversed(raw))) == expected


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Type.U16, (0xFFFF,)),
        (Type.I16, (0x8000,)),
        (Type.I16, (0x7FFF,)),
        (Type.U32, (0xFFFF, 0xFFFF)),
        (Type.I32, (0x8000, 0)),
        (Type.I32, (0x7FFF, 0xFFFF)),
        (Type.U64, (0xFFFF,) * 4),
        (Type.I64, (0x8000, 0, 0, 0)),
        (Type.I64, (0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF)),
        (Type.F32, (0x7FC0, 0)),
        (Type.F32, (0xFFFF, 0xFFFF)),
        (Type.F32, (0x7F80, 0)),
        (Type.F32, (0xFF80, 0)),
        (Type.F64, (0x7FF8, 0, 0, 0)),
        (Type.F64, (0xFFF0, 0, 0, 0)),
    ],
)
def test_no_value_is_none(kind: Type, raw: tuple[int, ...]) -> None:
    assert number(Register(0, kind, Unit.W), at(0, *raw)) is None
    assert number(Register(0, kind, Unit.W, order=Order.LO), at(0, *reversed(raw))) is None


@given(st.sampled_from(INTEGERS), st.sampled_from(Order), st.integers(0, 2**64 - 1))
def test_integers_survive_the_wire(kind: Type, order: Order, seed: int) -> None:
    bits = 16 * kind.words
    raw = seed % 2**bits
    signed = kind.name.startswith("I")
    value = raw - 2**bits if signed and raw >= 2 ** (bits - 1) else raw
    words = [(raw >> (bits - 16 * (n + 1))) & 0xFFFF for n in range(kind.words)]
    if order is Order.LO:
        words.reverse()
    limits = {2 ** (bits - 1) - 1, -(2 ** (bits - 1))} if signed else {2**bits - 1}
    expected = None if value in limits else value
    assert number(Register(40000, kind, Unit.WH, order=order), at(40000, *words)) == expected


@given(st.sampled_from([Type.F32, Type.F64]), st.sampled_from(Order), st.floats(width=32))
def test_floats_survive_the_wire(kind: Type, order: Order, value: float) -> None:
    data = struct.pack(">f" if kind is Type.F32 else ">d", value)
    words = [int.from_bytes(data[n : n + 2]) for n in range(0, len(data), 2)]
    if order is Order.LO:
        words.reverse()
    expected = value if math.isfinite(value) else None
    assert number(Register(0, kind, Unit.A, order=order), at(0, *words)) == expected


@pytest.mark.parametrize(
    ("unit", "scale", "raw", "expected"),
    [
        (Unit.V, 0.1, 2302, 230.2),
        (Unit.MA, 1, 16100, 16.1),
        (Unit.KW, 0.01, 370, 3700.0),
        (Unit.W, 10, 41, 410.0),
        (Unit.W, -1, 500, -500.0),  # counts export positive
        (Unit.KWH, 0.1, 123, 12300.0),
        (Unit.MWH, 1, 2, 2e6),
        (Unit.HZ, 0.01, 4998, 49.98),
    ],
)
def test_scale_and_unit_give_base_units(unit: Unit, scale: float, raw: int, expected: float) -> None:
    assert number(Register(0, Type.U16, unit, scale), at(0, raw)) == pytest.approx(expected)


def w(address: int, scale: float = 1) -> Register:
    return Register(address, Type.I16, Unit.W, scale)


SMALL = MeterMap(
    blocks=(Block(READ_INPUT, 0, 4), Block(READ_INPUT, 820, 3)),
    max_registers=11,
    probe=(Bound(VOLTS, 80, 300),),
    voltage=(VOLTS,),
    current=(Register(1, Type.U16, Unit.A, 0.1),),
    power=(w(2),),
    total_power=(w(820), w(821), w(822, -1)),
    current_is_magnitude=True,
)


def small(amps: int = 160, watts: int = 3700, grid: tuple[int, int, int] = (10, 20, 5)) -> dict[int, int]:
    return {**at(0, 230, amps, watts & 0xFFFF, 0), **at(820, *grid)}


def test_several_registers_are_added_and_subtracted() -> None:
    assert decode(SMALL, small(grid=(10, 20, 5))).total_power_w == 25


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    assert decode(SMALL, small(grid=(10, 0x8000, 5))).total_power_w is None


@pytest.mark.parametrize(("watts", "amps"), [(3700, 16.0), (-3700, -16.0), (0, 16.0), (0x8000, 16.0)])
def test_a_magnitude_takes_the_direction_of_its_power_and_counts_as_load_when_unknown(
    watts: int, amps: float
) -> None:
    assert decode(SMALL, small(watts=watts)).current_a == (amps,)


def test_an_unknown_magnitude_stays_unknown() -> None:
    assert decode(SMALL, small(amps=0xFFFF)).current_a == (None,)


def test_what_a_meter_does_not_measure_is_unknown() -> None:
    measured = decode(SMALL, small())
    assert (measured.frequency_hz, measured.import_wh, measured.export_wh) == (None, None, None)


def test_a_register_that_was_not_read_is_an_error() -> None:
    with pytest.raises(KeyError):
        decode(SMALL, at(0, 230, 160, 3700, 0))


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"blocks": (Block(READ_HOLDING, 0, 12),)}, "more than 11"),
        ({"blocks": (Block(READ_HOLDING, 0, 0),)}, "none"),
        ({"blocks": (Block(1, 0, 4),)}, "function code 1"),
        ({"blocks": (Block(READ_INPUT, 0, 4), Block(READ_INPUT, 3, 4))}, "overlaps"),
        ({"total_power": Register(3, Type.I32, Unit.W)}, "not inside one block"),
        ({"total_power": Register(0, Type.I16, Unit.KWH)}, "not a unit of power"),
        ({"import_energy": w(0)}, "not a unit of energy"),
        ({"probe": ()}, "probe"),
        ({"total_power": None}, "of no use"),
        ({"probe": (Bound(Register(60, Type.U16, Unit.V), 80, 300),)}, "not inside one block"),
    ],
)
def test_contradicting_facts_cannot_be_stated(facts: dict[str, object], complaint: str) -> None:
    good: dict[str, object] = {
        "blocks": (Block(READ_HOLDING, 0, 4),),
        "max_registers": 11,
        "probe": (Bound(VOLTS, 80, 300),),
        "total_power": w(1),
    }
    MeterMap(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=complaint):
        MeterMap(**{**good, **facts})  # type: ignore[arg-type]


# --- every meter in the folder --------------------------------------------------------------------------------


def words_of(meter: MeterMap, example: Example) -> dict[int, int]:
    words: dict[int, int] = {}
    for block, raw in zip(meter.blocks, example.raw, strict=True):
        words.update(zip(block.addresses, raw, strict=True))
    return words


def cases() -> Iterator[tuple[str, MeterMap, Example]]:
    for kind in kinds():
        file = find(kind)
        if isinstance(file, ModelFile):
            yield from ((kind, file.MODELS[model], example) for model, example in file.EXAMPLES.items())
        else:
            yield kind, file.MAP, file.EXAMPLE


CASES = list(cases())
every_case = pytest.mark.parametrize(("kind", "meter", "example"), CASES, ids=[case[0] for case in CASES])
every_kind = pytest.mark.parametrize("kind", kinds())
FIELDS = [field.name for field in fields(Measured)]


def settings(kind: str, **other: Any) -> MeterSettings:
    return MeterSettings(MeterId("m"), kind, "::1", 502, 1, 1.0, **other)


def close(value: Any) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-6)


@every_case
def test_the_example_of_every_meter_file_is_read_as_it_says(
    kind: str, meter: MeterMap, example: Example
) -> None:
    words = words_of(meter, example)
    measured = decode(meter, words)
    for name in FIELDS:
        assert getattr(measured, name) == close(getattr(example.measured, name)), name
    assert unfit(meter, words) is None
    reading(settings(kind), measured, 0.0)


@every_case
def test_every_example_tells_all_that_the_map_reads(kind: str, meter: MeterMap, example: Example) -> None:
    measured = example.measured
    assert all(
        value is not None for name in FIELDS for value in _tuple(getattr(measured, name)) if _has(meter, name)
    )


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _has(meter: MeterMap, name: str) -> bool:
    quantity = {
        "voltage_v": "voltage",
        "current_a": "current",
        "power_w": "power",
        "total_power_w": "total_power",
    }
    others = {
        "frequency_hz": "frequency",
        "import_wh": "import_energy",
        "export_wh": "export_energy",
        "soc_pct": "soc",
    }
    return bool(getattr(meter, {**quantity, **others}[name]))


@every_case
def test_currents_and_powers_agree_about_the_direction(kind: str, meter: MeterMap, example: Example) -> None:
    """Import positive everywhere: an example where a conductor feeds back shows it in both."""
    measured = example.measured
    for amps, watts in zip(measured.current_a, measured.power_w, strict=False):
        assert (amps > 0) == (watts > 0)
    if len(measured.power_w) == 3:
        assert min(measured.power_w) < 0 < max(measured.power_w)


@every_case
def test_inverted_and_behind_transformers_it_reads_turned_and_multiplied(
    kind: str, meter: MeterMap, example: Example
) -> None:
    plain = reading(settings(kind), example.measured, 0.0)
    turned = reading(settings(kind, invert=True, ct_ratio=2.0), example.measured, 0.0)
    for one, two in zip(plain.current_ma, turned.current_ma, strict=True):
        assert (one is None) == (two is None)
        assert one is None or two == pytest.approx(-2 * one, abs=2)
    assert plain.voltage_mv == turned.voltage_mv
    if plain.power_w is not None and turned.power_w is not None:
        assert turned.power_w == pytest.approx(-2 * plain.power_w, abs=2)
    assert (turned.import_wh, turned.export_wh) == (_doubled(plain.export_wh), _doubled(plain.import_wh))


def _doubled(value: int | None) -> Any:
    return None if value is None else pytest.approx(2 * value, abs=2)


@every_kind
def test_no_meter_file_takes_an_empty_or_floating_bus_for_a_meter(kind: str) -> None:
    for meter in maps(find(kind)):
        addresses = [address for block in meter.blocks for address in block.addresses]
        assert unfit(meter, dict.fromkeys(addresses, 0)) is not None
        ones = dict.fromkeys(addresses, 0xFFFF)
        assert unfit(meter, ones) is not None
        with pytest.raises(Nonsense):
            reading(settings(kind), decode(meter, ones), 0.0)


@every_kind
def test_every_number_with_its_pattern_for_no_value_is_unknown(kind: str) -> None:
    for meter in maps(find(kind)):
        for register in meter.registers:
            patterns = (
                register.type.unknown or {Type.F32: (0x7FC0_0000,), Type.F64: (0x7FF8 << 48,)}[register.type]
            )
            for pattern in patterns:
                raw = [(pattern >> 16 * n) & 0xFFFF for n in range(register.type.words)]
                if register.order is Order.HI:
                    raw.reverse()
                words = dict(zip(register.addresses, raw, strict=True))
                if register.scale_at is not None:
                    words.setdefault(register.scale_at, 0)
                assert number(register, words) is None


@every_kind
def test_the_reads_of_a_meter_file_keep_to_what_the_device_takes(kind: str) -> None:
    for meter in maps(find(kind)):
        read = [address for block in meter.blocks for address in block.addresses]
        assert len(set(read)) == len(read)
        assert max(block.count for block in meter.blocks) <= meter.max_registers <= 125
        needed = {address for one in meter.registers for address in one.addresses}
        ends = {block.address for block in meter.blocks} | {block.addresses[-1] for block in meter.blocks}
        assert ends <= needed | {one.scale_at for one in meter.registers}, (
            "a read begins or ends with what nobody needs"
        )


@every_kind
def test_split_to_the_last_piece_every_number_is_still_whole(kind: str) -> None:
    for meter in maps(find(kind)):
        waiting, smallest = list(meter.blocks), []
        while waiting:
            block = waiting.pop()
            parts = halves(block, meter)
            waiting += parts
            smallest += [] if parts else [block]
        covered = [set(block.addresses) for block in smallest]
        for register in meter.registers:
            assert any(set(register.addresses) <= one for one in covered)
            assert register.scale_at is None or any(register.scale_at in one for one in covered)
        assert max(block.count for block in smallest) <= 4


@every_kind
def test_every_meter_file_tells_its_source(kind: str) -> None:
    meter = find(kind)
    assert kind == meter.KIND
    assert meter.TITLE and "Source:" in (meter.__doc__ or "")


# --- SunSpec: frames made by another encoder ----------------------------------------------------------------------

FRAMES = json.loads((Path(__file__).parent / "sunspec_frames.json").read_text())["models"]
SUNSPEC = [
    (file, model)
    for file in map(find, ("sunspec-meter", "sunspec-inverter", "sunspec-battery"))
    if isinstance(file, ModelFile)
    for model in file.MODELS
]


def frame(model: int) -> dict[int, int]:
    raw = bytes.fromhex(FRAMES[str(model)]["words"])
    return {at // 2: int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2)}


@pytest.mark.parametrize(("file", "model"), SUNSPEC, ids=[str(model) for _, model in SUNSPEC])
def test_every_model_reads_what_another_encoder_wrote(file: ModelFile, model: int) -> None:
    points: dict[str, float] = FRAMES[str(model)]["points"]
    meter, words = file.MODELS[model], frame(model)
    assert unfit(meter, words) is None
    measured = decode(meter, words)

    def told(name: str, factor: str = "") -> float | None:
        if name not in points:
            return None
        return float(points[name] * 10.0 ** points.get(f"{factor}_SF", 0))

    sign = -1 if model // 100 in (1, 7, 8) else 1  # what generates counts export positive
    power = told("DCW", "DCW") if model == 714 else told("W", "W")
    assert measured.total_power_w == pytest.approx(None if power is None else sign * power)
    watts = [
        told(name, "W") for name in (["WL1", "WL2", "WL3"] if model == 701 else ["WphA", "WphB", "WphC"])
    ]
    for got, want in zip(measured.power_w, watts, strict=False):
        assert got == pytest.approx(None if want is None else sign * want)
    amps = [told(name, "A") for name in (["AL1", "AL2", "AL3"] if model == 701 else ["AphA", "AphB", "AphC"])]
    for one, want in zip(measured.current_a, amps, strict=False):
        assert (None if one is None else abs(one)) == pytest.approx(None if want is None else abs(want))
    names = ["VL1", "VL2", "VL3"] if model == 701 else ["PhVphA", "PhVphB", "PhVphC"]
    for got, want in zip(measured.voltage_v, [told(name, "V") for name in names], strict=False):
        assert got == pytest.approx(want)
    counters = {714: ("DCWhAbs", "DCWhInj", "DCWH"), 701: ("TotWhAbs", "TotWhInj", "TotWh")}
    bought, sold, factor = counters.get(
        model, ("TotWhImp", "TotWhExp", "TotWh") if model > 200 else ("", "WH", "WH")
    )
    assert measured.import_wh == pytest.approx(told(bought, factor))
    assert measured.export_wh == pytest.approx(told(sold, factor))
    assert measured.frequency_hz == pytest.approx(told("Hz", "Hz"))
    assert measured.soc_pct == pytest.approx(told("SoC", "SoC"))


@pytest.mark.parametrize("factor", [0x8000, 11, 0x10000 - 11])
def test_a_scale_factor_without_meaning_leaves_its_values_unknown(factor: int) -> None:
    file = find("sunspec-meter")
    assert isinstance(file, ModelFile)
    measured = decode(file.MODELS[203], {**frame(203), 22: factor})
    assert (measured.total_power_w, measured.power_w) == (None, (None, None, None))
    assert measured.current_a == pytest.approx(
        (41.0, 40.0, 39.0)
    )  # of unknown direction, so they count as load
    assert measured.frequency_hz == pytest.approx(50.01)


def test_the_kinds_known() -> None:
    assert "sdm630" in kinds()
    assert len(kinds()) > 30


def test_what_tells_no_currents_guards_no_circuit() -> None:
    assert guards("sdm630") and guards("sunspec-meter")
    assert not any(map(guards, ("sdm72", "em111", "victron-gx", "sma-inverter", "sunspec-battery")))


@pytest.mark.parametrize("typed", ["sdm360", "SDM630"])
def test_a_mistyped_kind_names_the_closest(typed: str) -> None:
    with pytest.raises(Misconfigured, match=f'"{typed}"; did you mean .*sdm630'):
        find(typed)


def test_a_kind_like_nothing_we_know_lists_all() -> None:
    with pytest.raises(Misconfigured, match=r"known kinds: .*sdm630"):
        find("xyzzy")


def test_word_orders_of_wide_types_differ() -> None:
    for kind in WIDE:
        words = at(0, *range(1, kind.words + 1))
        assert number(Register(0, kind, Unit.W), words) != number(
            Register(0, kind, Unit.W, order=Order.LO), words
        )
