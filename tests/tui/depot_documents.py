"""What the console would answer, built by hand: the documents of the screens that show more than the snapshot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from . import depot_values as values

Document = dict[str, Any]


def stamp(**back: float) -> str:
    return (values.NOW - timedelta(**back)).isoformat().replace("+00:00", "Z")


def plan() -> Document:
    """Twelve hours: BUS-03 will be ready, BUS-07 will not, VAN-1 lends to the site."""
    quarters = 48
    night = [11_000] * 8 + [0] * 20 + [11_000] * 8 + [0] * 12
    return {
        "version": 1, "timezone": "Europe/Amsterdam", "currency": "EUR", "now": stamp(), "made": stamp(minutes=1),
        "by": "horizon", "why": "",
        "slots": [stamp(minutes=-15 * number) for number in range(quarters + 1)],
        "site_w": [60_000 + (number % 8) * 10_000 for number in range(quarters)],
        "limit_w": 172_000, "peak_w": None,
        "price_per_kwh": [0.31] * 17 + [0.20] * 20 + [0.28] * 11,
        "load_w": [30_000] * quarters, "sun_w": [0] * quarters, "battery_w": None,
        "evses": [
            vehicle("CP001/1", "BUS-03", night),
            vehicle(
                "CP002/1", "BUS-07", [9_000] * 43 + [0] * 5, planned_wh=96_000, short_wh=12_000,
                binds="circuit row_a is full",
                best_remedy={"kind": "circuit", "text": "10 A more on row_a", "gain_wh": 12_000, "cost": 1.2},
            ),
            vehicle("DC01/1", "VAN-1", [-5_000] * 12 + [7_000] * 16 + [0] * 20, ready_pct=82, planned_wh=13_000),
        ],
        "expected": [
            {"evse": "CP004/1", "vehicle": "BUS-09", "arrives": stamp(hours=-2), "departs": stamp(hours=-11),
             "energy_wh": 40_000, "weight_pct": 100},
        ],
        "load_error_w": 1_500, "sun_error_w": None,
    }  # fmt: skip


def vehicle(evse: str, name: str, power_w: list[int], **changes: Any) -> Document:
    return {
        "evse": evse, "vehicle": name, "soc": 55, "received_wh": 12_300, "departs": stamp(hours=-10.8),
        "asked_wh": None, "asked_soc": 90, "planned_wh": 44_000, "short_wh": 0, "ready_pct": None, "cap_a": None,
        "why": "plan", "binds": None, "power_w": power_w, "remedies": [], "best_remedy": None,
    } | changes  # fmt: skip


def sessions() -> Document:
    """Oldest first, as the books tell them: one was inferred, one runs."""
    return {
        "sessions": [
            session("1-1", "CP004/1", "BUS-09", hours=30, lasted=8, energy_wh=61_250),
            session(
                "1-2", "CP005/1", None, hours=11, lasted=2, marks=["end-inferred"], stop_reason="inferred"
            ),
            session("1-3", "CP001/1", "BUS-03", hours=1.75, lasted=None, energy_wh=12_300, stop_reason=None),
        ],
        "more": False,
    }


def session(
    id: str, evse: str, name: str | None, hours: float, lasted: float | None, **changes: Any
) -> Document:
    ended = None if lasted is None else stamp(hours=hours - lasted)
    return {
        "id": id, "evse": evse, "transaction": "10423", "token": "04A2B3C47F2A", "vehicle": name,
        "started": stamp(hours=hours), "ended": ended, "energy_wh": 8_400, "register_start_wh": 18_234_100,
        "register_wh": 18_242_500, "stop_reason": "EVDisconnected", "marks": [], "cost": 2.41, "currency": "EUR",
        "counted": True,
    } | changes  # fmt: skip


def alarm() -> Document:
    return {
        "alarm": {},
        "fact": {
            "kind": "offline",
            "cause": "The station has not been heard for longer than its heartbeat: no power, no network, or it hangs.",
            "consequence": "It charges at its fallback at most; BUS-07 may not be ready in the morning.",
            "respond_s": 1800,
            "steps": ["Look at the lamp of the station.", "No light: its breaker.", "Light: switch it off and on."],
        },
        "alarms": [], "history": [{}, {}, {}], "acts": [],
    }  # fmt: skip


def channels() -> Document:
    return {
        "channels": [
            {"id": "ocpp", "state": "ok", "purposes": None},
            {"id": "open-platform/cloud", "state": "ok", "purposes": ["control", "monitor"]},
        ]
    }


def egress() -> Document:
    return {
        "egress": [
            request(minutes=4, path="/v1/oauth/token", fields={"client_id": "depot", "client_secret": "***"}),
            request(minutes=1, path="/v1/operator/start", fields={"charge_power": 7.0}),
        ],
        "more": False,
    }


def request(minutes: float, **changes: Any) -> Document:
    return {
        "time": stamp(minutes=minutes), "channel": "open-platform/cloud", "host": "platform.example",
        "operation": "start", "method": "POST", "path": "/v1", "fields": {}, "bytes": 71, "status": 200, "hash": "",
    } | changes  # fmt: skip


def log() -> Document:
    return {
        "lines": [
            happened(1, "session began", "CP001/1", "BUS-03", hours=1.75),
            happened(2, "alarm 2", "CP005/1", "GroundFailure", minutes=30),
            happened(3, "pause", "CP002/1", "by hand", "tech", minutes=9),
            happened(4, "alarm over", "CP005/1", "GroundFailure", minutes=2),
        ],
        "more": False,
    }


def happened(id: int, what: str, source: str, text: str, by: str | None = None, **back: float) -> Document:
    return {
        "time": stamp(**back),
        "book": "audit",
        "what": what,
        "source": source,
        "by": by,
        "text": text,
        "id": id,
    }


def history() -> Document:
    """Twenty-five minutes: set to 32 A, later to 16 A, and the vehicle follows."""
    points = []
    for number in range(150):
        amps = 32.0 if number < 60 else 16.0
        at = stamp(seconds=1500 - number * 10)
        points.append({"time": at, "commanded_a": amps, "measured_a": max(0.0, amps - (number % 3) * 0.4)})
    return {"evse": "CP001/1", "points": points}


def what_if() -> Document:
    """BUS-03 leaves earlier and will be short; one vehicle more; less from the grid and cheaper."""
    now, then = plan(), plan()
    bus, late, van = then["evses"]
    bus |= {
        "departs": stamp(hours=-2),
        "planned_wh": 21_000,
        "short_wh": 23_000,
        "binds": "no more fits before it leaves",
    }
    late |= {"short_wh": 9_500, "planned_wh": 98_500}
    then["evses"] = [
        bus,
        late,
        van,
        vehicle("CP004/1", "", [11_000] * 4 + [0] * 44, vehicle=None, planned_wh=11_000),
    ]
    then["site_w"] = [watts - 12_000 for watts in now["site_w"]]
    change = [
        "BUS-03 leaves Sun 21:42 at 90 % (now Mon 06:30 at 90 %)",
        "one more vehicle at CP004/1, leaving Mon 06:30 with 11.0 kWh",
    ]
    return {"change": change, "now": now, "then": then}


def frames() -> Document:
    """What CP005 said as it failed; one call was refused."""
    return {
        "frames": [
            frame(True, '[2,"9f3a-17","SetChargingProfile",{"connectorId":1,"csChargingProfiles":{"chargingProfileId":7,'
                  '"stackLevel":3,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","chargingSchedule":'
                  '{"duration":180,"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":16.0}]}}}]',
                  seconds=1811),
            frame(False, '[3,"9f3a-17",{"status":"Accepted"}]', seconds=1810),
            frame(False, '[2,"CP005-88","StatusNotification",{"connectorId":1,"errorCode":"GroundFailure"}]', seconds=1800),
            frame(True, '[3,"CP005-88",{}]', seconds=1800),
            frame(True, '[2,"9f3a-18","UnlockConnector",{"connectorId":1}]', seconds=1799),
            frame(False, '[4,"9f3a-18","InternalError","",{}]', seconds=1798),
            frame(False, '[2,"CP005-89","Authorize",{"idTag":"…7F2A"}]', seconds=1795),
        ],
        "more": False,
    }  # fmt: skip


def frame(sent: bool, text: str, about: str = "CP005", **back: float) -> Document:
    return {"time": stamp(**back), "channel": "ocpp1.6", "about": about, "sent": sent, "text": text}


def everything() -> dict[str, Document]:
    return {
        "plan": plan(), "sessions": sessions(), "alarm": alarm(), "channels": channels(), "egress": egress(),
        "log": log(), "history": history(), "what-if": what_if(), "frames": frames(),
        "why": {"evse": "CP001/1", "grant_a": 16.0, "bound_by": "circuit row_a L2", "set_by": "the site's config",
                "with_one_more_a": 17.0, "next_by": "station"},
    }  # fmt: skip
