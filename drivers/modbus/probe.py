"""Asks an address what meters are behind it, without a config: who it says it is first, then every kind in turn.

Owns the order of asking and the judgement how well a kind fits. It acts on nothing and writes nothing.

A device that answers nothing to the first reads is passed over; one that answers anything, were it a refusal, is asked for
every kind, for some meters do not answer reads of registers they do not have. SunSpec devices say who they are; for all
others the bounds of the meter files decide, and several may fit: the one with most values in order comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.core.events import MeterReading
from controller.core.model import MeterId
from drivers.errors import DriverError, Nonsense, Unreachable
from drivers.modbus import find, kinds
from drivers.modbus.device import Device
from drivers.modbus.discover import common, models
from drivers.modbus.installed import MeterSettings, reading
from drivers.modbus.line import Address, Line
from drivers.modbus.plausible import doubts
from drivers.modbus.registers import Measured, decode, unfit
from drivers.modbus.sunspec import ModelFile

TIMEOUT_S = 1.0
SILENT_READS = 3  # so many reads without any answer: nobody is there
DOUBT_COSTS = 3  # a doubt weighs as much as so many values

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A kind that fits what a unit answers. `said`: who the device says it is. `doubts`: one line each, worst first."""

    unit: int
    kind: str
    title: str
    said: str | None
    measured: Measured
    reading: MeterReading
    latency_ms: int
    doubts: tuple[str, ...]

    @property
    def values(self) -> int:
        """How much of it there is: the more, the better the kind fits."""
        one = self.measured
        several = (*one.voltage_v, *one.current_a, *one.power_w)
        single = (one.total_power_w, one.frequency_hz, one.import_wh, one.export_wh, one.soc_pct)
        return sum(value is not None for value in (*several, *single))


@dataclass(frozen=True, slots=True)
class Asked:
    """One unit id: what fits, best first, and why nothing does."""

    unit: int
    found: tuple[Found, ...]
    why: str


async def probe(
    address: Address, units: Sequence[int], kind: str | None, progress: Progress, timeout_s: float = TIMEOUT_S
) -> list[Asked]:
    """Raises Unreachable when there is no connection, Misconfigured for a kind without a file."""
    if kind is not None:
        find(kind)
    line = Line(address, timeout_s)
    asked = []
    try:
        await line.open()
        for unit in units:
            asked.append(await _Unit(line, unit, progress).ask(kind))
    except Unreachable as error:
        raise Unreachable(f"{line}: {error}") from error
    finally:
        line.close()
    return asked


class _Unit:
    def __init__(self, line: Line, unit: int, progress: Progress) -> None:
        self._line, self._unit, self._progress = line, unit, progress
        self._silent = 0
        self._answered = False
        self._said: str | None = None

    async def ask(self, kind: str | None) -> Asked:
        found: list[Found] = []
        why = ""
        for each in [kind] if kind is not None else await self._candidates():
            if not self._answered and self._silent >= SILENT_READS:
                break
            self._progress(f"unit {self._unit}: {each}")
            try:
                found.append(await self._try(each))
            except DriverError as error:
                self._note(error)
                why = str(error)
        if self._answered and kind is None:
            why = "it answers, but no kind we know fits"
        found.sort(key=lambda one: DOUBT_COSTS * len(one.doubts) - one.values)
        return Asked(self._unit, tuple(found), "" if found else why)

    def _note(self, error: DriverError) -> None:
        if isinstance(error, Unreachable):
            self._silent += 1
        else:
            self._answered = True

    async def _candidates(self) -> list[str]:
        """SunSpec kinds alone where the device speaks SunSpec, else all the others, the richest first."""
        self._progress(f"unit {self._unit}: SunSpec")
        speaks = False
        try:
            await self._line.open()
            found = await models(self._line, self._unit)
            speaks = self._answered = bool(found)
            if (who := await common(self._line, self._unit, found)) is not None:
                self._said = " ".join(part for part in who if part)
        except DriverError as error:
            self._note(error)
        if speaks:
            return _of_maker(self._said or "")
        return sorted(
            (name for name in kinds() if not isinstance(find(name), ModelFile)), key=_richness, reverse=True
        )

    async def _try(self, kind: str) -> Found:
        device = Device(kind, self._unit)
        await self._line.open(device.settle_s)
        began_s = asyncio.get_running_loop().time()
        meter, words = await device.read(self._line)
        self._answered = True
        taken_s = asyncio.get_running_loop().time()
        if why := unfit(meter, words):
            raise Nonsense(f"does not look like {kind}: {why}")
        measured = decode(meter, words)
        at = self._line.address
        settings = MeterSettings(MeterId("probe"), kind, at.host, at.port, self._unit, poll_s=1.0)
        event = reading(settings, measured, taken_s)
        latency_ms = round((taken_s - began_s) * 1000)
        title = find(kind).TITLE
        return Found(self._unit, kind, title, self._said, measured, event, latency_ms, doubts(measured))


def _of_maker(said: str) -> list[str]:
    """The kinds of this maker alone where it has its own."""
    files = {name: file for name in kinds() if isinstance(file := find(name), ModelFile)}
    own = [
        name
        for name, file in files.items()
        if file.MAKER and said.casefold().startswith(file.MAKER.casefold())
    ]
    replaced = {model for name in own for model in files[name].MODELS}
    free = (name for name, file in files.items() if not file.MAKER and not replaced & set(file.MODELS))
    return [*own, *free]


def _richness(kind: str) -> int:
    file = find(kind)
    return 0 if isinstance(file, ModelFile) else len(set(file.MAP.registers))
