"""The simulated OCPP 2.x station and its charging profiles: what really flows, judged by the copper."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from central2 import Bench, bench

from drivers.sim import merge
from drivers.sim.charger2_merge import (
    EXTERNAL,
    PRIORITY,
    STATION_MAX,
    Allowed,
    Period,
    Profile,
    allowed,
    clashes,
    still_valid,
    survivors,
)

Json = dict[str, Any]
T0 = datetime(2026, 11, 22, 12, tzinfo=UTC)
AC = merge.Hardware(32.0, 3, 230.0)


def profile(purpose: str, limit: float, id: int = 1, evse: int = 1, stack: int = 0, **more: Any) -> Profile:
    period = Period(0.0, limit, **more.pop("period", {}))
    fixed = {"kind": "Absolute", "unit": "A", "periods": (period,), "received": T0, "start": T0}
    return Profile(id=id, connector=evse, stack=stack, purpose=purpose, **{**fixed, **more})


def amps(*profiles: Profile, at: datetime = T0, tx: bool = True, **more: Any) -> float:
    return allowed(profiles, 1, at, AC, T0 if tx else None, **more).limit_a


# --- the merge, as values -------------------------------------------------------------------------------------------


def test_purposes_stack_and_cap() -> None:
    default = profile(merge.TX_DEFAULT, 20.0, 1, evse=0)
    own = profile(merge.TX, 25.0, 2)
    cap = profile(STATION_MAX, 16.0, 3, evse=0)
    outside = profile(EXTERNAL, 10.0, 4, evse=0)
    assert amps() == 32.0
    assert amps(default) == 20.0
    assert amps(default, own) == 25.0
    assert amps(default, own, tx=False) == 20.0
    assert amps(default, own, cap) == 16.0
    assert amps(default, own, cap, outside) == 10.0
    assert amps(default, own, cap, sharing=2) == 8.0


def test_the_higher_level_rules_while_it_speaks() -> None:
    low = profile(merge.TX_DEFAULT, 6.0, 1, stack=0)
    lease = profile(merge.TX_DEFAULT, 16.0, 2, stack=3, duration_s=60.0)
    assert amps(low, lease) == 16.0
    assert amps(low, lease, at=T0 + timedelta(seconds=60)) == 6.0
    assert amps(low, profile(merge.TX_DEFAULT, 16.0, 2, stack=3, valid_to=T0)) == 6.0
    assert amps(low, profile(merge.TX_DEFAULT, 16.0, 2, stack=3, valid_from=T0 + timedelta(seconds=1))) == 6.0


def test_priority_charging_counts_only_when_it_is_on() -> None:
    own, fast = profile(merge.TX, 8.0), profile(PRIORITY, 30.0, 2)
    assert amps(own, fast) == 8.0
    assert amps(own, fast, priority=True) == 30.0


def test_a_limit_in_watts_is_rounded_down() -> None:
    assert amps(profile(merge.TX, 7000.0, unit="W")) == 10.1
    assert amps(profile(merge.TX, 7000.0, unit="W", periods=(Period(0.0, 7000.0, 1),))) == 30.4


@pytest.mark.parametrize(
    ("period", "v2x", "expected"),
    [
        ({"setpoint": -10.0, "mode": "CentralSetpoint"}, True, Allowed(0.0, 10.0)),
        ({"setpoint": -10.0, "mode": "CentralSetpoint", "lowest": -6.0}, True, Allowed(0.0, 6.0)),
        ({"setpoint": -99.0, "mode": "CentralSetpoint"}, True, Allowed(0.0, 32.0)),
        ({"setpoint": 9.0, "mode": "CentralSetpoint"}, True, Allowed(9.0)),
        ({"setpoint": -10.0, "mode": "CentralSetpoint"}, False, Allowed(32.0)),
        ({"mode": "Idle"}, True, Allowed(0.0)),
    ],
)
def test_set_points(period: Json, v2x: bool, expected: Allowed) -> None:
    wanted = profile(merge.TX, math.inf, period=period)
    assert allowed([wanted], 1, T0, AC, T0, v2x=v2x) == expected


def test_a_profile_that_ends_without_a_link() -> None:
    forever, lease = profile(merge.TX_DEFAULT, 6.0), profile(merge.TX, 20.0, 2, offline_s=60.0)
    mortal = profile(merge.TX, 20.0, 3, stack=1, offline_s=60.0, dies_offline=True)
    everything = (forever, lease, mortal)
    assert still_valid(everything, 60.0) == list(everything)
    assert still_valid(everything, 61.0) == [forever]
    assert survivors(everything, 61.0) == (forever, lease)


def test_one_place_one_profile() -> None:
    here = profile(merge.TX_DEFAULT, 6.0)
    assert clashes([here], profile(merge.TX_DEFAULT, 7.0, 2))
    assert not clashes([here], profile(merge.TX_DEFAULT, 7.0, 1))
    assert not clashes([here], profile(merge.TX_DEFAULT, 7.0, 2, stack=1))
    later = profile(merge.TX_DEFAULT, 7.0, 2, valid_from=T0)
    assert not clashes([profile(merge.TX_DEFAULT, 6.0, valid_to=T0)], later)


# --- the same over the wire -------------------------------------------------------------------------------------------


async def accepted(b: Bench, order: Json) -> None:
    assert await b.call("SetChargingProfile", order) == {"status": "Accepted"}


async def test_a_lease_over_a_stored_fallback() -> None:
    async with bench() as b:
        id = await b.session()
        await accepted(b, b.profile("TxDefaultProfile", 6.0, evse=0, id=1))
        lease = b.profile("TxProfile", 16.0, id=2, transactionId=id, schedule={"duration": 60 + 120})
        await accepted(b, lease)
        await b.drawing(16.0)
        event = await b.central.event("ChargingRateChanged")
        assert event["transactionInfo"]["transactionId"] == id
        await b.drawing(6.0)  # by itself


async def test_a_limit_below_the_minimum_pauses_and_resumes() -> None:
    async with bench() as b:
        await b.session()
        await accepted(b, b.profile("TxDefaultProfile", 0.0))
        await b.central.state("SuspendedEVSE")
        mark = b.central.mark()
        await accepted(b, b.profile("TxDefaultProfile", 12.0))
        await b.central.state("Charging", after=mark)
        await b.drawing(12.0)


async def test_wrong_profiles_are_refused_with_a_reason() -> None:
    async with bench() as b:
        id = await b.session()
        for wrong, reason in (
            (b.profile("TxProfile", 9.0, transactionId="other"), "TxNotFound"),
            (b.profile("TxProfile", 9.0), "TxNotFound"),
            (b.profile("TxProfile", 9.0, evse=0, transactionId=id), "InvalidValue"),
            (b.profile("ChargingStationMaxProfile", 9.0), "InvalidProfile"),
            (b.profile("ChargingStationExternalConstraints", 9.0, evse=0), "InvalidProfile"),
            (b.profile("TxDefaultProfile", 9.0, stackLevel=99), "InvalidStackLevel"),
            (b.profile("TxDefaultProfile", 9.0, evse=7), "UnknownEvse"),
            (b.profile("TxDefaultProfile", 9.0, chargingProfileKind="Recurring"), "InvalidProfile"),
            (b.profile("TxDefaultProfile", 9.0, period={"startPeriod": 5}), "InvalidProfile"),
        ):
            answer = await b.call("SetChargingProfile", wrong)
            assert (answer["status"], answer["statusInfo"]["reasonCode"]) == ("Rejected", reason)
        await accepted(b, b.profile("TxDefaultProfile", 9.0))
        twin = await b.call("SetChargingProfile", b.profile("TxDefaultProfile", 9.0, id=2))
        assert twin["statusInfo"]["reasonCode"] == "DuplicateProfile"
        assert len(b.station.memory.profiles) == 1


async def test_profiles_are_told_and_cleared() -> None:
    async with bench(evses=2) as b:
        await accepted(b, b.profile("ChargingStationMaxProfile", 40.0, evse=0, id=1))
        for evse in (1, 2):
            await accepted(b, b.profile("TxDefaultProfile", 10.0, evse=evse, id=evse + 1))
        everything = {"requestId": 5, "chargingProfile": {"chargingLimitSource": ["CSO"]}}
        assert await b.call("GetChargingProfiles", everything) == {"status": "Accepted"}
        await b.central.first("ReportChargingProfiles", requestId=5, tbc=False)
        reports = b.central.all("ReportChargingProfiles")
        assert [(r["evseId"], r["chargingProfile"][0]["id"]) for r in reports] == [(0, 1), (1, 2), (2, 3)]
        none = {"requestId": 6, "evseId": 1, "chargingProfile": {"stackLevel": 7}}
        assert await b.call("GetChargingProfiles", none) == {"status": "NoProfiles"}
        criteria = {"chargingProfileCriteria": {"chargingProfilePurpose": "TxDefaultProfile", "evseId": 2}}
        assert await b.call("ClearChargingProfile", criteria) == {"status": "Accepted"}
        assert await b.call("ClearChargingProfile", criteria) == {"status": "Unknown"}
        assert await b.call("ClearChargingProfile", {"chargingProfileId": 1}) == {"status": "Accepted"}
        assert [one.id for one in b.station.memory.profiles] == [2]
        place = {"component": {"name": "SmartChargingCtrlr"}, "variable": {"name": "Entries"}}
        await b.call("GetReport", {"requestId": 7, "componentVariable": [place]})
        (row,) = (await b.central.first("NotifyReport", requestId=7))["reportData"]
        assert (row["variableAttribute"][0]["value"], row["variableCharacteristics"]["maxLimit"]) == ("1", 20)
        b.station.reboot()
        await b.central.until(lambda: len(b.central.all("BootNotification")) == 2)
        assert [one.id for one in b.station.memory.profiles] == [2]


async def test_composite_schedule_shows_the_lease_ending() -> None:
    async with bench(speed=1.0) as b:
        await accepted(b, b.profile("TxDefaultProfile", 6.0, evse=0))
        lease = b.profile("TxDefaultProfile", 16.0, id=2, stackLevel=1, schedule={"duration": 60 + 300})
        await accepted(b, lease)
        answer = await b.call("GetCompositeSchedule", {"duration": 600, "evseId": 1})
        periods = answer["schedule"]["chargingSchedulePeriod"]
        assert [period["limit"] for period in periods] == [16.0, 6.0]
        assert 295 <= periods[1]["startPeriod"] <= 300
        watts = await b.call("GetCompositeSchedule", {"duration": 60, "evseId": 1, "chargingRateUnit": "W"})
        assert watts["schedule"]["chargingSchedulePeriod"][0]["limit"] == 16.0 * 3 * 230.0
        unknown = await b.call("GetCompositeSchedule", {"duration": 600, "evseId": 9})
        assert unknown["status"] == "Rejected"


async def test_a_limit_from_outside_is_told_and_followed() -> None:
    async with bench() as b:
        await b.session()
        b.station.limit_from_outside(8.0)
        told = await b.central.first("NotifyChargingLimit")
        assert told["chargingLimit"]["chargingLimitSource"] == "EMS"
        await b.drawing(8.0)
        wanted = {"requestId": 1, "chargingProfile": {"chargingLimitSource": ["EMS"]}}
        await b.call("GetChargingProfiles", wanted)
        await b.central.first("ReportChargingProfiles", chargingLimitSource="EMS")
        assert await b.call("ClearChargingProfile", {"chargingProfileId": 2_000_000_000}) == {
            "status": "Unknown"
        }
        b.station.limit_from_outside(None)
        await b.central.first("ClearedChargingLimit")
        await b.drawing(32.0)


async def test_21_a_profile_ends_when_the_link_is_down_too_long_and_comes_back() -> None:
    async with bench("ocpp2.1") as b:
        id = await b.session()
        await accepted(b, b.profile("TxDefaultProfile", 6.0, evse=0))
        await accepted(b, b.profile("TxProfile", 20.0, id=2, transactionId=id, maxOfflineDuration=60))
        await b.drawing(20.0)
        b.station.drop_link(away_s=200.0)
        await b.drawing(6.0)
        assert not b.central.up
        await b.drawing(20.0)
        assert b.station.connected


async def test_21_dynamic_profiles_are_written_and_asked_for() -> None:
    asked = {"PullDynamicScheduleUpdate": {"status": "Accepted", "scheduleUpdate": {"limit": 7.0}}}
    async with bench("ocpp2.1", answers=asked) as b:
        await b.session()
        await accepted(b, b.profile("TxDefaultProfile", 14.0, id=4, chargingProfileKind="Dynamic"))
        await b.drawing(14.0)
        update = {"chargingProfileId": 4, "scheduleUpdate": {"limit": 9.0}}
        assert await b.call("UpdateDynamicSchedule", update) == {"status": "Accepted"}
        await b.drawing(9.0)
        unknown = {**update, "chargingProfileId": 5}
        assert (await b.call("UpdateDynamicSchedule", unknown))["status"] == "Rejected"
        pulling = b.profile(
            "TxDefaultProfile", 14.0, id=4, chargingProfileKind="Dynamic", dynUpdateInterval=30
        )
        await accepted(b, pulling)
        await b.drawing(7.0)


async def test_21_priority_charging() -> None:
    async with bench("ocpp2.1") as b:
        id = await b.session()
        await accepted(b, b.profile("TxProfile", 8.0, transactionId=id))
        await b.drawing(8.0)
        order = {"transactionId": id, "activate": True}
        assert await b.call("UsePriorityCharging", order) == {"status": "NoProfile"}
        await accepted(b, b.profile("PriorityCharging", 24.0, id=2))
        assert await b.call("UsePriorityCharging", order) == {"status": "Accepted"}
        await b.drawing(24.0)
        await b.call("UsePriorityCharging", {**order, "activate": False})
        await b.drawing(8.0)


async def test_21_a_negative_set_point_discharges() -> None:
    async with bench("ocpp2.1", v2g=True) as b:
        id = await b.session()
        back = {"setpoint": -10.0, "operationMode": "CentralSetpoint"}
        await accepted(b, b.profile("TxProfile", None, transactionId=id, period=back))
        await b.eventually(lambda: b.evse.current_a == (-10.0, -10.0, -10.0))
        mark = b.central.mark()
        event = await b.central.event("MeterValuePeriodic", after=mark)
        values = event["meterValue"][0]["sampledValue"]
        export = next(v["value"] for v in values if v["measurand"] == "Power.Active.Export")
        assert export == pytest.approx(6900.0)
        assert event["transactionInfo"]["chargingState"] == "Charging"
        asked = {"duration": 60, "evseId": 1}
        schedule = (await b.call("GetCompositeSchedule", asked))["schedule"]
        assert schedule["chargingSchedulePeriod"][0]["setpoint"] == -10.0
        modes = {"name": "V2XChargingCtrlr", "evse": {"id": 1}}, {"name": "SupportedOperationModes"}
        row = {"component": modes[0], "variable": modes[1]}
        (told,) = (await b.call("GetVariables", {"getVariableData": [row]}))["getVariableResult"]
        assert "CentralSetpoint" in told["attributeValue"].split(",")
    async with bench("ocpp2.1") as b:
        id = await b.session()
        refused = await b.call(
            "SetChargingProfile", b.profile("TxProfile", None, transactionId=id, period=back)
        )
        assert refused["statusInfo"]["reasonCode"] == "UnsupportedParam"
