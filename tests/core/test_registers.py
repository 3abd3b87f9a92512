"""Registers to numbers: every type and order, what means "no value", and every meter file against its own example."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.model import MeterId
from drivers.errors import Misconfigured, Nonsense
from drivers.modbus import find, kinds
from drivers.modbus.bus import MeterSettings, reading
from drivers.modbus.registers import (
    READ_HOLDING,
    READ_INPUT,
    Block,
    Bound,
    MeterMap,
    Order,
    Register,
    Type,
    Unit,
    decode,
    number,
    unfit,
)

WIDE = [one for one in Type if one.words > 1]
INTEGERS = [one for one in Type if one not in (Type.F32, Type.F64)]
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


def example_words(kind: str) -> dict[int, int]:
    meter = find(kind)
    words: dict[int, int] = {}
    for block, raw in zip(meter.MAP.blocks, meter.EXAMPLE.raw, strict=True):
        words.update(zip(block.addresses, raw, strict=True))
    return words


@pytest.mark.parametrize("kind", kinds())
def test_the_example_of_every_meter_file_is_read_as_it_says(kind: str) -> None:
    meter = find(kind)
    measured, expected = decode(meter.MAP, example_words(kind)), meter.EXAMPLE.measured
    for name in (
        "voltage_v",
        "current_a",
        "power_w",
        "total_power_w",
        "frequency_hz",
        "import_wh",
        "export_wh",
    ):
        assert getattr(measured, name) == pytest.approx(getattr(expected, name), rel=1e-6), name
    assert unfit(meter.MAP, example_words(kind)) is None
    reading(MeterSettings(MeterId("m"), kind, "::1", 502, 1, 1.0), measured, 0.0)


@pytest.mark.parametrize("kind", kinds())
def test_no_meter_file_takes_an_empty_or_floating_bus_for_a_meter(kind: str) -> None:
    meter = find(kind).MAP
    addresses = example_words(kind)
    assert unfit(meter, dict.fromkeys(addresses, 0)) is not None
    ones = dict.fromkeys(addresses, 0xFFFF)
    assert unfit(meter, ones) is not None
    with pytest.raises(Nonsense):
        reading(MeterSettings(MeterId("m"), kind, "::1", 502, 1, 1.0), decode(meter, ones), 0.0)


@pytest.mark.parametrize("kind", kinds())
def test_every_meter_file_tells_its_source(kind: str) -> None:
    meter = find(kind)
    assert kind == meter.KIND
    assert "Source:" in (meter.__doc__ or "")


def test_the_kinds_known() -> None:
    assert "sdm630" in kinds()


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
