"""An auditor of OUT.csv: integrates the rows against the sessions and the config's limits with its own arithmetic.

Shares nothing with the simulation but the columns of the interface. Times are compared as they stand in the files, so not
over a night on which the clock changes.
"""

from __future__ import annotations

import csv
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

PHASES = ("L1", "L2", "L3")


@dataclass
class Found:
    wrong: list[str] = field(default_factory=list)
    kwh: dict[str, float] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    kw: dict[str, float] = field(default_factory=dict)  # of all, by time
    amps: dict[str, list[float]] = field(default_factory=dict)  # of all, by time


def audit(config: Path, sessions: Path, out: Path, step_s: float = 60) -> Found:
    """Everything that does not fit, in words; and sums of its own."""
    found = Found()
    site = tomllib.loads(config.read_text())
    volts = float(site["site"].get("voltage", "230 V").split()[0])
    with sessions.open() as file:
        known = {row["session"]: row for row in csv.DictReader(file)}
    before: dict[str, float] = defaultdict(float)
    ended: dict[str, datetime] = {}
    with out.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        session, time = row["session"], datetime.fromisoformat(row["time"])
        stay = known[session]
        amps = [float(row[f"l{n}_a"]) for n in (1, 2, 3)]
        kw, kwh = float(row["power_kw"]), float(row["energy_kwh"])
        name = f"{row['time']} {session}"
        if time < datetime.fromisoformat(stay["arrival"]) or time >= datetime.fromisoformat(
            stay["departure"]
        ):
            found.wrong.append(f"{name}: it is not there")
        if session in ended and time != ended[session]:
            found.wrong.append(f"{name}: not the next step")
        ended[session] = time + timedelta(seconds=step_s)
        unit = site["station"][row["station"]]["evse"]["1"]
        wired = [PHASES.index(phase) for phase in unit["phases"].split()]
        used = wired[: int(stay["phases"] or 3)]
        if any(value and n not in used for n, value in enumerate(amps)):
            found.wrong.append(f"{name}: current on a phase it does not use")
        value = max(amps)
        least, most = (float(unit[key].split()[0]) for key in ("min", "max"))
        if value and (
            not least <= value <= most or value != int(value) or {amps[n] for n in used} != {value}
        ):
            found.wrong.append(f"{name}: {amps} is not 0 or {least} to {most} in whole steps")
        if kw > sum(amps) * volts / 1000 + 1e-3 or kw < 0:
            found.wrong.append(f"{name}: draws {kw} kW with {amps}")
        if kw > float(stay["max_kw"] or 1e6) + 0.02:
            found.wrong.append(f"{name}: more than the vehicle can")
        if abs(kwh - before[session] - kw * step_s / 3600) > 1e-3:
            found.wrong.append(f"{name}: energy is not the sum of power")
        if kwh > float(stay["energy_kwh"]) + 1e-3:
            found.wrong.append(f"{name}: more than it needs")
        found.starts[session] = found.starts.get(session, 0) + (
            value > 0 and not found.amps.get(f"was {session}")
        )
        found.amps[f"was {session}"] = [value] if value else []
        before[session] = found.kwh[session] = kwh
        found.kw[row["time"]] = found.kw.get(row["time"], 0.0) + kw
        sums = found.amps.setdefault(row["time"], [0.0, 0.0, 0.0])
        for n in range(3):
            sums[n] += amps[n]
    found.amps = {key: sums for key, sums in found.amps.items() if not key.startswith("was ")}
    found.wrong += _overloads(site, rows)
    return found


def _overloads(site: dict[str, Any], rows: list[dict[str, str]]) -> list[str]:
    parents = {name: circuit["parent"] for name, circuit in site.get("circuit", {}).items()}
    limits = {name: _limit(circuit["limit"]) for name, circuit in site.get("circuit", {}).items()}
    limits["site"] = _limit(site["site"]["limit"])
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for row in rows:
        circuit = site["station"][row["station"]]["circuit"]
        while circuit is not None:
            for n in range(3):
                sums[row["time"], str(circuit)][n] += float(row[f"l{n + 1}_a"])
            circuit = None if circuit == "site" else parents[str(circuit)]
    return [
        f"{time}: {circuit} carries {sums_a}"
        for (time, circuit), sums_a in sums.items()
        if any(value > limit for value, limit in zip(sums_a, limits[circuit], strict=True))
    ]


def _limit(text: Any) -> list[float]:
    texts = text if isinstance(text, list) else [text] * 3
    return [float(one.split()[0]) for one in texts]
