"""A meter as installed: where it is, how it is wired, and a reading as the installation means it.

Owns the installation's facts (CT ratio, direction, phase order) and the bounds no value of a low-voltage site passes.
Pure: no wire, no time. It does not know what a reading is good for (the core).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controller.core.events import MeterReading
from controller.core.model import MeterId, PerPhase
from controller.core.units import load_ma, load_w, whole
from drivers.errors import Misconfigured, Nonsense
from drivers.modbus.registers import Measured

MOST_A = 10_000.0
LIVE_V = (80.0, 300.0)
LIVE_HZ = (45.0, 65.0)
MOST_W = 3 * MOST_A * LIVE_V[1]


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """One meter as installed. `poll_s` of the driver's clock. `ct_ratio` multiplies currents, powers and energies.

    host, port: on a serial line (transport "rtu") the path of the device and 0; baud, parity and stop_bits count there only.
    invert: the meter hangs the other way round: flips current and power, swaps import and export.
    phases: the grid phase (0, 1, 2) of each of the meter's conductors; shorter than 3 ignores the others.

    Raises Misconfigured on values no meter can have.
    """

    id: MeterId
    kind: str
    host: str
    port: int
    unit: int
    poll_s: float
    invert: bool = False
    ct_ratio: float = 1.0
    phases: tuple[int, ...] = (0, 1, 2)
    transport: str = "tcp"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.unit <= 255:
            raise Misconfigured(f"meter {self.id}: unit {self.unit} is not between 0 and 255")
        if not (math.isfinite(self.poll_s) and self.poll_s > 0):
            raise Misconfigured(f"meter {self.id}: a poll every {self.poll_s:g} s is not possible")
        if not (math.isfinite(self.ct_ratio) and self.ct_ratio > 0):
            raise Misconfigured(f"meter {self.id}: ct_ratio {self.ct_ratio:g} is not above 0")
        if not self.phases or len(set(self.phases)) < len(self.phases) or not set(self.phases) <= {0, 1, 2}:
            raise Misconfigured(
                f"meter {self.id}: phases {self.phases} do not name each grid phase at most once"
            )


def reading(settings: MeterSettings, measured: Measured, taken_s: float) -> MeterReading:
    """What the meter says, as the installation means it. Raises Nonsense for what cannot be true."""
    _check(settings, measured)
    factor = -settings.ct_ratio if settings.invert else settings.ct_ratio
    energy_wh = [
        None if one is None else whole(one * settings.ct_ratio)
        for one in (measured.import_wh, measured.export_wh)
    ]
    import_wh, export_wh = reversed(energy_wh) if settings.invert else energy_wh
    total_w = measured.total_power_w
    return MeterReading(
        meter=settings.id,
        taken_s=taken_s,
        current_ma=_per_phase(
            settings, [None if a is None else load_ma(a * factor) for a in measured.current_a]
        ),
        power_w=None if total_w is None else load_w(total_w * factor),
        voltage_mv=_per_phase(settings, [None if v is None else whole(v * 1000) for v in measured.voltage_v]),
        import_wh=import_wh,
        export_wh=export_wh,
        soc_pct=None if measured.soc_pct is None else int(measured.soc_pct),
    )


def _check(settings: MeterSettings, measured: Measured) -> None:
    ratio = settings.ct_ratio
    for n, volts in enumerate(measured.voltage_v, 1):
        # exactly 0 is a dead phase; a whiff of a volt is swapped words or a loose wire
        if volts is not None and volts != 0 and not LIVE_V[0] <= volts <= LIVE_V[1]:
            raise Nonsense(f"voltage of conductor {n} is {volts:.4g} V")
    for n, amps in enumerate(measured.current_a, 1):
        if amps is not None and abs(amps * ratio) > MOST_A:
            raise Nonsense(f"current of conductor {n} is {amps * ratio:.4g} A")
    for watts in (*measured.power_w, measured.total_power_w):
        if watts is not None and abs(watts * ratio) > MOST_W:
            raise Nonsense(f"power is {watts * ratio:.4g} W")
    hertz = measured.frequency_hz
    if hertz is not None and hertz != 0 and not LIVE_HZ[0] <= hertz <= LIVE_HZ[1]:
        raise Nonsense(f"frequency is {hertz:.4g} Hz")
    for watt_hours in (measured.import_wh, measured.export_wh):
        if watt_hours is not None and watt_hours < 0:
            raise Nonsense(f"an energy register went below zero: {watt_hours:.4g} Wh")
    if measured.total_power_w is None and all(amps is None for amps in measured.current_a):
        raise Nonsense("the meter has no value for any current nor for its power")


def _per_phase(settings: MeterSettings, conductors: Sequence[int | None]) -> PerPhase[int | None]:
    grid: list[int | None] = [None, None, None]
    for phase, value in zip(settings.phases, conductors, strict=False):
        grid[phase] = value
    return PerPhase(*grid)
