"""What a month leaves on the disk and writes to it: 50 chargers, two thirds of them charging at night, as the real
telemetry and ledger store it, in virtual time.

Bytes written are those handed to the kernel (`wchar`): at the pace of life every commit reaches the flash, so this is
what it wears by, before its own amplification. The journal (controller.journal) has a bench of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from controller.core.commands import Audited, CeilingSaved, SessionSaved
from controller.core.model import (
    SITE,
    CircuitId,
    EvseState,
    MeterId,
    PerPhase,
    Quality,
    StationId,
    each_phase,
    evse_id,
)
from controller.core.snapshot import CircuitView, EvseView, MeterView, SessionView, Snapshot
from controller.ledger import Ledger
from controller.storage import LEDGER, TELEMETRY, Storage
from controller.telemetry import SAMPLE_S, Telemetry
from tests.bench.figures import Figure

EVSES, CIRCUITS, DAYS = 50, 8, 30
START = datetime(2026, 11, 1, tzinfo=UTC)
NIGHT = (18, 6)  # from this hour to that one vehicles are there
CHARGES_H = 8  # so long the energy they need takes


def storage() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_month(Path(folder)))


async def _month(folder: Path) -> list[Figure]:
    books = Storage(folder)
    await books.open()
    telemetry, ledger, random = Telemetry(books), Ledger(books), Random("storage")
    began, warm = _written(), 0
    for day in range(DAYS):
        if day == DAYS - 7:  # by then rows of the week before go as new ones come
            await _settle(books)
            warm = _written()
        for second in range(0, 86_400, SAMPLE_S):
            at = START + timedelta(days=day, seconds=second)
            telemetry.observe(_picture(at, random))
            if second % 3600 == 0:
                await _hour(ledger, at, random)
            if second % 600 == 0:
                await _settle(books)
    telemetry.flush()
    await books.close()
    ended = _written()
    kept = {name: (folder / name).stat().st_size / 1e9 for name in (LEDGER, TELEMETRY)}
    return [
        Figure("written per day, last week of the month", (ended - warm) / 7 / 1e9, "GB", 0.2),
        Figure("written per day, whole month", (ended - began) / DAYS / 1e9, "GB", 0.2),
        Figure("kept after a month", sum(kept.values()), "GB", 0.5),
        Figure("of that sessions and audit", kept[LEDGER], "GB"),
    ]


async def _settle(books: Storage) -> None:
    await books.write(TELEMETRY, lambda db: None)


def _written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


async def _hour(ledger: Ledger, at: datetime, random: Random) -> None:
    """Entries of a busy hour, one commit each, as they come in life."""
    for number in range(EVSES):
        evse = evse_id(f"CP{number:03}", 1)
        session = f"{at:%d}-{number}"
        await ledger.append((CeilingSaved(evse, random.randrange(6_000, 32_000)),))
        await ledger.append(
            (
                SessionSaved(
                    session,
                    evse,
                    str(number),
                    "TAG",
                    None,
                    at,
                    None,
                    random.randrange(60_000),
                    0,
                    0,
                    None,
                    (),
                ),
                Audited(at, "depot", "limited", evse, "to 16 A"),
            )
        )


def _picture(at: datetime, random: Random) -> Snapshot:
    hour = at.hour + at.minute / 60
    there = hour >= NIGHT[0] or hour < NIGHT[1]
    charges = there and (hour - NIGHT[0]) % 24 < CHARGES_H
    return Snapshot(
        at, "Depot", "auto", "", "UTC", _circuits(charges, random),
        tuple(_evse(number, at, there, charges, random) for number in range(EVSES)), (_meter(at, random),), (), (), (),
    )  # fmt: skip


def _evse(number: int, at: datetime, there: bool, charges: bool, random: Random) -> EvseView:
    name = evse_id(f"CP{number:03}", 1)
    draws = charges and number % 3 != 0
    drawn_ma = random.randrange(14_000, 16_000) if draws else 0
    state = EvseState.CHARGING if draws else EvseState.SUSPENDED_EV if there else EvseState.AVAILABLE
    energy_wh = int((at - START).total_seconds()) if there and draws else 40_000
    session = SessionView("s", None, None, at, energy_wh, None, None, None) if there else None
    return EvseView(
        name, StationId(f"CP{number:03}"), SITE, True, (), state, 32_000, 16_000 if draws else 0, 16_000, 16_000,
        each_phase(drawn_ma), drawn_ma * 690 // 1000, 16_000 if draws else 6_000, "", False, None, 6_000, True, None,
        session, None, "",
    )  # fmt: skip


def _circuits(charges: bool, random: Random) -> tuple[CircuitView, ...]:
    carried_ma = 300_000 if charges else 20_000
    return tuple(
        CircuitView(
            CircuitId(f"row_{number}"),
            None,
            each_phase(500_000),
            each_phase(carried_ma + random.randrange(9_000)),
            each_phase(random.randrange(9_000)),
            each_phase(carried_ma),
            None,
            None,
            Quality.GOOD,
        )
        for number in range(CIRCUITS)
    )


def _meter(at: datetime, random: Random) -> MeterView:
    currents = PerPhase(*(random.randrange(200_000, 400_000) for _ in range(3)))
    import_wh = int((at - START).total_seconds()) * 50
    return MeterView(
        MeterId("main"), "sdm630", 0.5, Quality.GOOD, sum(currents) * 230 // 1000, currents, import_wh, None
    )
