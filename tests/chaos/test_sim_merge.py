"""The simulated charger's profile merge as a table: OCPP 1.6 section 3.13 against plain numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from drivers.sim.merge import Hardware, Period, Profile, composite, install, limit_a

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AC = Hardware(max_a=32.0, conductors=3, voltage_v=230.0)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def profile(purpose: str, amps: float, **more: Any) -> Profile:
    values: dict[str, Any] = {
        "id": 1,
        "connector": 1,
        "stack": 0,
        "kind": "Absolute",
        "unit": "A",
        "periods": (Period(0.0, amps),),
        "received": NOW,
        "start": at(-60),
        **more,
    }
    return Profile(purpose=purpose, **values)


FALLBACK = profile("TxDefaultProfile", 6.0)
LEASE = profile("TxProfile", 20.0, id=2, stack=5, start=at(-60), duration_s=240.0, transaction=1)
CAP = profile("ChargePointMaxProfile", 10.0, id=3, connector=0)


@pytest.mark.parametrize(
    ("profiles", "when_s", "tx", "expected"),
    [
        pytest.param([], 0, True, 32.0, id="nothing stored: hardware maximum"),
        pytest.param([FALLBACK], 0, True, 6.0, id="default alone"),
        pytest.param([FALLBACK, LEASE], 0, True, 20.0, id="TxProfile over TxDefault, even when higher"),
        pytest.param([FALLBACK, LEASE], 0, False, 6.0, id="TxProfile counts only in a transaction"),
        pytest.param([FALLBACK, LEASE], 179, True, 20.0, id="one second before the lease ends"),
        pytest.param([FALLBACK, LEASE], 180, True, 6.0, id="the lease has ended"),
        pytest.param([FALLBACK, LEASE, CAP], 0, True, 10.0, id="station cap over all"),
        pytest.param([LEASE, CAP], 200, True, 10.0, id="cap alone after the lease"),
        pytest.param([profile("TxProfile", 99.0)], 0, True, 32.0, id="never above the hardware"),
        pytest.param([profile("TxDefaultProfile", 16.0, connector=2)], 0, True, 32.0, id="other connector's"),
        pytest.param(
            [profile("TxDefaultProfile", 16.0, connector=0)], 0, True, 16.0, id="whole station's default"
        ),
        pytest.param(
            [profile("TxDefaultProfile", 16.0, connector=0), FALLBACK], 0, True, 6.0, id="own connector first"
        ),
        pytest.param(
            [profile("TxDefaultProfile", 16.0, connector=0, stack=1), FALLBACK],
            0,
            True,
            16.0,
            id="stack level first",
        ),
        pytest.param(
            [FALLBACK, profile("TxDefaultProfile", 12.0, stack=3, valid_to=at(10))],
            9,
            True,
            12.0,
            id="valid still",
        ),
        pytest.param(
            [FALLBACK, profile("TxDefaultProfile", 12.0, stack=3, valid_to=at(10))],
            10,
            True,
            6.0,
            id="not any more",
        ),
        pytest.param(
            [FALLBACK, profile("TxDefaultProfile", 12.0, stack=3, valid_from=at(10))],
            9,
            True,
            6.0,
            id="not yet",
        ),
        pytest.param(
            [FALLBACK, profile("TxProfile", 12.0, start=at(5))], 0, True, 6.0, id="starts in the future"
        ),
        pytest.param(
            [profile("TxProfile", 12.0, start=None)], 0, True, 12.0, id="no start: the transaction's"
        ),
        pytest.param(
            [
                profile(
                    "TxProfile", 0.0, kind="Relative", start=None, periods=(Period(0, 16.0), Period(100, 8.0))
                )
            ],
            69,
            True,
            16.0,
            id="relative to the transaction, first period",
        ),
        pytest.param(
            [
                profile(
                    "TxProfile", 0.0, kind="Relative", start=None, periods=(Period(0, 16.0), Period(100, 8.0))
                )
            ],
            70,
            True,
            8.0,
            id="relative to the transaction, second period",
        ),
        pytest.param(
            [
                profile(
                    "TxDefaultProfile",
                    0.0,
                    kind="Recurring",
                    recurrence="Daily",
                    start=at(-86400 * 3 - 10),
                    periods=(Period(0, 16.0), Period(60, 8.0)),
                )
            ],
            49.0,
            True,
            16.0,
            id="daily, before its period changes",
        ),
        pytest.param(
            [
                profile(
                    "TxDefaultProfile",
                    0.0,
                    kind="Recurring",
                    recurrence="Daily",
                    start=at(-86400 * 3 - 10),
                    periods=(Period(0, 16.0), Period(60, 8.0)),
                )
            ],
            50.0,
            True,
            8.0,
            id="daily, after its period changed",
        ),
        pytest.param([profile("TxProfile", 11_000.0, unit="W")], 0, True, 15.9, id="W on three phases, down"),
        pytest.param(
            [profile("TxProfile", 0, unit="W", periods=(Period(0, 3680.0, 1),))],
            0,
            True,
            16.0,
            id="W on one phase",
        ),
        pytest.param([profile("TxProfile", 0.0)], 0, True, 0.0, id="zero is zero"),
        pytest.param([profile("TxProfile", -5.0)], 0, True, 0.0, id="below zero is zero"),
    ],
)
def test_merge(profiles: list[Profile], when_s: float, tx: bool, expected: float) -> None:
    assert limit_a(profiles, 1, at(when_s), AC, at(-30) if tx else None) == expected


def test_the_station_cap_is_shared() -> None:
    assert limit_a([CAP], 1, NOW, AC, NOW, sharing=2) == 5.0


def test_a_one_conductor_station_turns_watts_into_the_current_of_one_phase() -> None:
    single = Hardware(max_a=32.0, conductors=1, voltage_v=230.0)
    assert limit_a([profile("TxProfile", 3680.0, unit="W")], 1, NOW, single, NOW) == 16.0


def test_the_same_id_and_the_same_place_are_replaced() -> None:
    by_id = profile("TxDefaultProfile", 8.0, id=1, stack=4)
    by_place = profile("TxDefaultProfile", 9.0, id=9, stack=0)
    assert install([FALLBACK, CAP], by_id) == (CAP, by_id)
    assert install([FALLBACK, CAP], by_place) == (CAP, by_place)
    assert install([FALLBACK], LEASE) == (FALLBACK, LEASE)


def test_composite_schedule_turns_where_the_lease_ends() -> None:
    profiles = [FALLBACK, LEASE]
    schedule = composite(profiles, NOW, 600.0, at(-30), lambda t: limit_a(profiles, 1, t, AC, at(-30)))
    assert schedule == [(0.0, 20.0), (180.0, 6.0)]
