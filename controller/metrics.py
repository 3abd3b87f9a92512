"""The page that Prometheus reads: one picture of the depot as text.

Owns names, units and labels: base units (Wh where an installer reads a meter in Wh), `_total` for what only grows, and
labels from the config alone, so that the number of lines is bounded by the site. Unknown is a line that is not there,
never 0. Must not open a socket and must not hold up a step. Source: the text exposition format 0.0.4 of Prometheus and its
naming conventions.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.core.model import EvseId
from controller.core.snapshot import CircuitView, EvseView, MeterView, Snapshot
from controller.histogram import Histogram

PHASES = ("L1", "L2", "L3")
STATES = ("auto", "degraded", "failsafe", "starting")
CHANNEL_STATES = ("ok", "degraded", "down", "off")
STEP_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    labels: Labels
    value: float | int | None  # None: unknown


class Delivered:
    """Energy per EVSE since our start, from sessions that begin at 0 each. A session that runs at our start counts from
    what it had then: otherwise a restart would count it twice."""

    def __init__(self) -> None:
        self._total_wh: dict[EvseId, int] = {}
        self._seen: dict[EvseId, tuple[str, int]] = {}
        self._began = False

    def observe(self, snapshot: Snapshot) -> None:
        for evse in snapshot.evses:
            total_wh = self._total_wh.setdefault(evse.id, 0)
            if (session := evse.session) is None:
                continue
            fresh = 0 if self._began else session.energy_wh
            before, seen_wh = self._seen.get(evse.id, ("", 0))
            base_wh = seen_wh if before == session.id else fresh
            self._total_wh[evse.id] = total_wh + max(0, session.energy_wh - base_wh)
            self._seen[evse.id] = (session.id, session.energy_wh)
        self._began = True

    def samples(self) -> Iterator[Sample]:
        return (Sample((("evse", evse),), wh) for evse, wh in self._total_wh.items())


@dataclass(frozen=True, slots=True)
class Inside:
    """What the process knows of itself. ledger_silence_s: since the storage thread last came round. queues: commands that
    wait, by channel. calls: by the OCPP action that was answered. commits: by file."""

    version: str
    clock_trusted: bool
    ledger_silence_s: float
    ledger_full: bool
    quirks: Mapping[str, int]  # by station
    queues: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, Histogram] = field(default_factory=dict)
    commits: Mapping[str, Histogram] = field(default_factory=dict)


def page(snapshot: Snapshot, delivered: Delivered, inside: Inside, step: Histogram, lag: Histogram) -> str:
    """The whole page, closed by a line break."""
    lines = [
        *_site(snapshot, inside),
        *_circuits(snapshot.circuits),
        *_evses(snapshot.evses, delivered),
        *_meters(snapshot.meters),
        *_around(snapshot),
        *_process(inside),
        *_histograms("depot_control_cycle_seconds", "Time one decision took.", {(): step}),
        *_histograms("depot_event_loop_lag_seconds", "How late a timer of one second fired.", {(): lag}),
        *_histograms(
            "depot_ocpp_call_seconds", "Until a station answered a call.",
            {(("action", action),): found for action, found in sorted(inside.calls.items())},
        ),
        *_histograms(
            "depot_db_commit_seconds", "Time one transaction took, commit included.",
            {(("file", name),): found for name, found in inside.commits.items()},
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    """Nothing at all while nothing of it is known."""
    lines = [f"{name}{_shown(each.labels)} {each.value:.10g}" for each in samples if each.value is not None]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines] if lines else []


def _histograms(name: str, text: str, found: Mapping[Labels, Histogram]) -> list[str]:
    """Nothing at all while there is none."""
    lines = []
    for labels, each in found.items():
        for bound, count in each.below():
            lines.append(f"{name}_bucket{_shown((*labels, ('le', bound)))} {count}")
        lines += [f"{name}_sum{_shown(labels)} {each.sum_s:.6f}", f"{name}_count{_shown(labels)} {count}"]
    return [f"# HELP {name} {text}", f"# TYPE {name} histogram", *lines] if lines else []


def _shown(labels: Labels) -> str:
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _amps(milli: int | None) -> float | None:
    return None if milli is None else milli / 1e3


def _one_of(name: str, text: str, key: Labels, states: Iterable[str], state: str) -> list[str]:
    """1 for the state that holds, 0 for each other."""
    return _family(
        name, "gauge", text, (Sample((*key, ("state", each)), int(each == state)) for each in states)
    )


def _site(snapshot: Snapshot, inside: Inside) -> list[str]:
    return [
        *_family("depot_build_info", "gauge", "The version that runs.", [Sample((("version", inside.version),), 1)]),
        *_one_of("depot_state", "How the site is controlled.", (), STATES, snapshot.state),
        *_family(
            "depot_snapshot_timestamp_seconds", "gauge", "When it last decided.",
            [Sample((), round(snapshot.time.timestamp(), 3))],
        ),
        *_family(
            "depot_clock_trusted", "gauge", "Whether the wall clock can be relied on.",
            [Sample((), int(inside.clock_trusted))],
        ),
        *_family(
            "depot_alarm_active", "gauge", "Alarms that call somebody.",
            (
                Sample((("priority", str(priority)),), sum(each.priority == priority for each in snapshot.alarms))
                for priority in (1, 2, 3)
            ),
        ),
    ]  # fmt: skip


def _circuits(circuits: Iterable[CircuitView]) -> list[str]:
    amps, margins = [], []
    for circuit in circuits:
        kinds = {
            "measured": circuit.measured_ma,
            "background": circuit.background_ma,
            "committed": circuit.committed_ma,
            "limit": circuit.limit_ma,
        }
        for kind, values in kinds.items():
            for phase, milli in zip(PHASES, values, strict=True):
                amps.append(Sample((("circuit", circuit.id), ("phase", phase), ("kind", kind)), _amps(milli)))
        margin = circuit.trip_margin_pct
        margins.append(Sample((("circuit", circuit.id),), None if margin is None else margin / 100))
    return [
        *_family("depot_circuit_current_amperes", "gauge", "Current on a circuit, per phase.", amps),
        *_family("depot_circuit_trip_margin_ratio", "gauge", "1: breaker cold, 0: may have tripped.", margins),
    ]  # fmt: skip


def _evses(evses: tuple[EvseView, ...], delivered: Delivered) -> list[str]:
    state, limits, amps = [], [], []
    for evse in evses:
        key = (("evse", evse.id),)
        state.append(Sample((*key, ("state", evse.state.value)), 1))
        kinds = {
            "rating": evse.limit_ma,
            "granted": evse.grant_ma,
            "commanded": evse.commanded_ma,
            "accepted": evse.accepted_ma,
            "committed": evse.commitment_ma,
            "fallback": evse.fallback_ma,
        }
        limits += [Sample((*key, ("kind", kind)), _amps(milli)) for kind, milli in kinds.items()]
        measured = zip(PHASES, evse.measured_ma, strict=True)
        amps += [Sample((*key, ("phase", phase)), _amps(milli)) for phase, milli in measured]

    def each(values: Iterable[float | int | None]) -> Iterator[Sample]:
        return (Sample((("evse", evse.id),), value) for evse, value in zip(evses, values, strict=True))

    return [
        *_family("depot_charger_state", "gauge", "1 for the state an EVSE is in.", state),
        *_family("depot_charger_connected", "gauge", "1: it has a link.", each(e.connected for e in evses)),
        *_family("depot_charger_limit_amperes", "gauge", "Per phase: from rating to what was accepted.", limits),
        *_family("depot_charger_current_amperes", "gauge", "Measured, per phase.", amps),
        *_family("depot_charger_power_watts", "gauge", "Measured.", each(e.power_w for e in evses)),
        *_family("depot_charger_lease_seconds", "gauge", "What is left of its lease.", each(e.lease_left_s for e in evses)),
        *_family(
            "depot_charger_contactor_cycles_total", "counter", "Stops of a drawing vehicle by a limit.",
            each(e.contactor_cycles for e in evses),
        ),
        *_family("depot_session_energy_wh_total", "counter", "Delivered since our start.", delivered.samples()),
    ]  # fmt: skip


def _meters(meters: tuple[MeterView, ...]) -> list[str]:
    def each(values: Iterable[float | int | None]) -> Iterator[Sample]:
        return (Sample((("meter", meter.id),), value) for meter, value in zip(meters, values, strict=True))

    late = (None if m.latency_ms is None else m.latency_ms / 1e3 for m in meters)
    good = (int(m.quality == "good") for m in meters)
    return [
        *_family("depot_meter_age_seconds", "gauge", "Of its newest reading.", each(m.age_s for m in meters)),
        *_family("depot_meter_good", "gauge", "1: its readings can be relied on.", each(good)),
        *_family("depot_meter_power_watts", "gauge", "Import positive.", each(m.power_w for m in meters)),
        *_family("depot_meter_import_wh_total", "counter", "Its register.", each(m.import_wh for m in meters)),
        *_family("depot_meter_errors_total", "counter", "Polls without a reading.", each(m.errors for m in meters)),
        *_family("depot_meter_latency_seconds", "gauge", "How long it takes to answer.", each(late)),
    ]  # fmt: skip


def _around(snapshot: Snapshot) -> list[str]:
    """Channels, external limits, batteries and the quarter hour."""
    channels = [
        Sample((("channel", each.id), ("state", state)), int(each.state == state))
        for each in snapshot.channels
        for state in CHANNEL_STATES
    ]
    holds = [Sample((("limit", each.id),), int(bool(each.holds))) for each in snapshot.grid_limits]
    power = [Sample((("battery", each.id),), each.power_w) for each in snapshot.batteries]
    charge = [
        Sample((("battery", each.id),), None if each.soc_pct is None else each.soc_pct / 100)
        for each in snapshot.batteries
    ]
    peak = snapshot.peak
    kinds = {} if peak is None else {"target": peak.target_w, "quarter": peak.mean_w, "month": peak.month_w}
    watts = [Sample((("kind", kind),), value) for kind, value in kinds.items()]
    return [
        *_family("depot_channel_state", "gauge", "1 for the state a channel is in.", channels),
        *_family("depot_grid_limit_active", "gauge", "1: an external limit holds.", holds),
        *_family("depot_battery_power_watts", "gauge", "Charging positive.", power),
        *_family("depot_battery_charge_ratio", "gauge", "1: full.", charge),
        *_family("depot_peak_watts", "gauge", "Quarter-hour means at the grid connection.", watts),
    ]


def _process(inside: Inside) -> list[str]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    quirks = (Sample((("station", station),), count) for station, count in inside.quirks.items())
    queues = (Sample((("channel", channel),), count) for channel, count in inside.queues.items())
    with open("/proc/self/statm", "rb") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    cpu_s = round(used.ru_utime + used.ru_stime, 3)
    return [
        *_family("depot_ocpp_quirk_total", "counter", "Oddities of a station that were repaired.", quirks),
        *_family("depot_cloud_queue", "gauge", "Commands that wait to leave for a platform.", queues),
        *_family(
            "depot_ledger_silence_seconds", "gauge", "Since the storage thread last came round.",
            [Sample((), round(inside.ledger_silence_s, 3))],
        ),
        *_family("depot_ledger_full", "gauge", "1: it takes no more entries.", [Sample((), int(inside.ledger_full))]),
        *_family("process_resident_memory_bytes", "gauge", "Resident memory.", [Sample((), resident)]),
        *_family("process_cpu_seconds_total", "counter", "User and system time.", [Sample((), cpu_s)]),
    ]  # fmt: skip
