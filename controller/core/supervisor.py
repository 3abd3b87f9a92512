"""The supervisor: did the world follow? Commanded against measured, promises against presence. What is abnormal now.

What becomes of a condition that stands (alarms, who has seen them, what is silenced) is `alarms`'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.core.background import Sight
from controller.core.belief import Belief
from controller.core.bimetal import WARM_PCT, Bimetal
from controller.core.commitments import Commitments
from controller.core.detective import Detective
from controller.core.grid import PHASE_NAMES, Grid
from controller.core.model import Circuit, CircuitId, EvseId, EvseState, Moment, Quality, Site, family_of
from controller.core.session import Session
from controller.core.sessions import Sessions
from controller.core.tempo import Tempo
from controller.core.witness import told

OFFLINE_DELAY_S = 30.0
BOOKS_DELAY_S = 5.0
CLOCK_DELAY_S = 2.0  # why it is not believed is told by then
UNKEPT_DELAY_S = 900.0  # a time service needs its time after a start
REFUSED_SHOWN_S = 600.0
ORPHAN_SHOWN_S = 86_400.0
PREPARING_S = 600.0
SILENT_DELAY_S = 30.0  # one heartbeat of the Open Platform
PLATFORM = "open-platform/"
CLUSTER = "fault-cluster"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something abnormal that holds now. delay_s: how long it must hold before it is worth a person's time."""

    kind: str
    source: str
    priority: int
    text: str
    delay_s: float = 0.0


def conditions(
    site: Site,
    grid: Grid,
    belief: Belief,
    commitments: Commitments,
    sessions: Mapping[EvseId, Session],
    sights: Mapping[CircuitId, Sight],
    committed_ma: Sequence[int],
    now: Moment,
) -> Iterator[Condition]:
    if not now.utc_trusted:
        doubt = belief.clock.doubt or "clock not trusted"
        yield Condition("clock", "clock", 2, f"{doubt}: schedules and departures rest", CLOCK_DELAY_S)
    elif belief.clock.advice:
        yield Condition("clock-unkept", "clock", 3, belief.clock.advice, UNKEPT_DELAY_S)
    for source, text in belief.books.items():
        if text:
            yield Condition("books", source, 2, text, BOOKS_DELAY_S)
    yield from _meters(site, belief, now)
    yield from _circuits(site, grid, belief, sights, committed_ma, now)
    yield from _evses(belief, commitments, sessions, now)
    for (station, evse, code), text in belief.faults.items():
        yield Condition("fault-code", f"{evse or station} {code}", 2, f"{code} {text}".rstrip())
    yield from _repeated(belief, now)
    for channel in belief.channels.values():
        if channel.state in ("down", "degraded"):
            text = f"{channel.state}: {channel.text}"
            if carries_chargers(site, channel.channel):
                yield Condition("channel", channel.channel, 2 if channel.state == "down" else 3, text, 10.0)
            elif carries_chargers(
                site, channel.channel.partition("/")[0]
            ):  # a part of it: its keys, a second door
                yield Condition("door", channel.channel, 3, text, 10.0)
            else:
                yield Condition("feed", channel.channel, 3, text, 10.0)
    for (_, identity), (refused, at_s) in belief.refused.items():
        if now.mono_s - at_s < REFUSED_SHOWN_S:
            text = f"turned away at {refused.channel} from {refused.peer}: {refused.reason}"
            yield Condition("access", identity, 3, text)


def carries_chargers(site: Site, channel: str) -> bool:
    """Whether stations hang on it, or only programs that look and ask (MQTT)."""
    return any(channel in (family_of(evse.link.channel), evse.companion) for evse in site.evses.values())


def orphans(sessions: Sessions, now: Moment) -> Iterator[Condition]:
    """Stops whose start nobody knows: energy that is booked to no vehicle until a person has looked."""
    for (station, transaction), orphan in sessions.orphans.items():
        if orphan.ended is not None and abs((now.utc - orphan.ended).total_seconds()) < ORPHAN_SHOWN_S:
            text = f"transaction {transaction} ended without a start, {orphan.energy_wh / 1e3:.1f} kWh: see depot sessions"
            yield Condition("orphan", station, 3, text)


def sleepers(tempo: Tempo, now_s: float) -> Iterator[Condition]:
    """Vehicles that should charge, may, and do not, whatever was tried. One that never began is perhaps just full."""
    for evse, began in tempo.asleep(now_s):
        text = "takes nothing after three wake-ups: plug it in again, or it is full"
        yield Condition("asleep", evse, 2 if began else 3, text)


def miswired(detective: Detective) -> Iterator[Condition]:
    """EVSEs whose phases are not those of the config, as far as their meter shows."""
    for evse, view in detective.contradictions():
        likely = " ".join(PHASE_NAMES[phase] for phase in view.likely)
        text = f"wired to {likely}, it seems ({view.confidence * 100:.0f} %, {view.seen} observations): check phases"
        yield Condition("rotation", evse, 3, text)


def _repeated(belief: Belief, now: Moment) -> Iterator[Condition]:
    """What no single fact shows: faults of a kind, links that come and go, and chargers that fell silent."""
    for cluster in belief.trouble.clusters(now.mono_s):
        builds = sorted({build for build in cluster.stations.values() if build})
        firmware = f", firmware {', '.join(builds)}" if builds else ""
        names = ", ".join(sorted(cluster.stations))
        text = f"{cluster.code} at {len(cluster.stations)} stations within 7 days{firmware}: {names}"
        yield Condition(CLUSTER, cluster.code, 2, text)
    for storm in belief.trouble.storms(now.mono_s):
        text = f"F-0302 reconnect storm: {storm.links} links in 10 min, last over {storm.channel}"
        yield Condition("fault-code", f"{storm.station} F-0302", 3, text)
    for silence in belief.trouble.silences():
        channel = belief.channels.get(silence.channel)
        is_off = channel is not None and channel.state in ("off", "down")  # then all of them are silent
        if silence.channel.startswith(PLATFORM) and not is_off:
            text = f"F-0301 heartbeat lost over {silence.channel}: {silence.reason}"
            yield Condition("fault-code", f"{silence.station} F-0301", 2, text, SILENT_DELAY_S)


def _meters(site: Site, belief: Belief, now: Moment) -> Iterator[Condition]:
    for meter in site.meters.values():
        if belief.quality(meter.id, now.mono_s) is Quality.GOOD:
            continue
        age = belief.meters[meter.id].age_s(now.mono_s)
        seen = "no reading yet" if age is None else f"last reading {age:.0f} s ago"
        error = belief.meters[meter.id].error or "no answer"
        priority = 1 if meter.id == site.circuits[CircuitId("site")].meter else 2
        yield Condition("meter", meter.id, priority, f"{seen}: {error}", 2.0)
    for swapped, doubt in belief.witnesses.swapped():
        yield Condition("phases", swapped, 2, told(doubt))


def _circuits(
    site: Site,
    grid: Grid,
    belief: Belief,
    sights: Mapping[CircuitId, Sight],
    committed_ma: Sequence[int],
    now: Moment,
) -> Iterator[Condition]:
    for circuit in site.circuits.values():
        if circuit.meter is not None:
            reading = belief.meters[circuit.meter].reading
            if reading is not None and belief.quality(circuit.meter, now.mono_s) is Quality.GOOD:
                for phase, current in enumerate(reading.current_ma):
                    if current is not None and current > circuit.limit_ma[phase]:
                        text = f"{PHASE_NAMES[phase]} at {current / 1e3:.1f} A, limit {circuit.limit_ma[phase] / 1e3:.0f} A"
                        yield Condition("overload", circuit.id, 1, text)
        yield from _hot(circuit, belief.bimetals.get(circuit.id))
        if sights.get(circuit.id) is Sight.BLIND:
            yield Condition("failsafe", circuit.id, 1, "blind: every EVSE below stays at its fallback", 15.0)
        for phase in range(3):
            if committed_ma[grid.index(circuit.id, phase)] > circuit.limit_ma[phase]:
                reserved = committed_ma[grid.index(circuit.id, phase)] / 1e3
                text = f"{PHASE_NAMES[phase]}: stations may draw {reserved:.0f} A if left alone, limit {circuit.limit_ma[phase] / 1e3:.0f} A"
                yield Condition("reserve", circuit.id, 2, text, 30.0)
                break


def _hot(circuit: Circuit, bimetal: Bimetal | None) -> Iterator[Condition]:
    margins = None if bimetal is None else bimetal.margins_pct()
    if margins is None or min(margins) >= WARM_PCT:
        return
    least = min(margins)
    device = circuit.breaker or "the most sensitive breaker there is, none is named"
    hot = "may have tripped" if least == 0 else f"may trip, {least} % left"
    text = f"{PHASE_NAMES[margins.index(least)]} was overloaded: {device}: {hot}; it cools for minutes"
    yield Condition("trip-margin", circuit.id, 1 if least == 0 else 2, text, 2.0)


def _evses(
    belief: Belief, commitments: Commitments, sessions: Mapping[EvseId, Session], now: Moment
) -> Iterator[Condition]:
    for evse_id, evse in belief.evses.items():
        account = commitments.accounts[evse_id]
        station = belief.stations[evse.evse.station]
        if not station.connected:
            priority = 2 if evse_id in sessions else 3
            kept_ma = account.commitment_ma(now.mono_s)
            text = f"offline ({station.reason}), {kept_ma / 1e3:.0f} A reserved"
            yield Condition("offline", evse_id, priority, text, OFFLINE_DELAY_S)
            continue
        if account.evse.link.needs_proof and not account.proven:
            text = f"not proven to fall to its fallback: counts at {evse.evse.max_ma / 1e3:.0f} A while out of reach"
            yield Condition("unproven", evse.evse.station, 3, text, 60.0)
        if account.fallback_ma is None:
            text = f"fallback not stored: counts at its maximum, {evse.evse.max_ma / 1e3:.0f} A"
            yield Condition("fallback", evse_id, 2, text, 20.0)
        if account.overdraw_until_s > now.mono_s:
            text = f"draws {account.overdraw_ma / 1e3:.1f} A, more than it was allowed"
            yield Condition("overdraw", evse_id, 1, text)
        if account.refusals >= 3:
            yield Condition("refuses", evse_id, 2, f"{account.refusals} limits in a row not accepted")
        if evse.state is EvseState.PREPARING and (evse.wished or evse_id in sessions):
            text = "in preparing for 10 min with a vehicle that should charge"
            yield Condition("stuck", evse_id, 2, text, PREPARING_S)
        if evse.state is EvseState.FAULTED:
            yield Condition("fault", evse_id, 2, f"faulted: {evse.fault or 'no code'}")
