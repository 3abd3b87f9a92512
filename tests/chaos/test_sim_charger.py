"""The simulated OCPP 1.6 charger against a tiny central system on a real socket.

This file is long because one story of a charger, told against one tiny central system.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from controller.clock import SystemClock
from drivers.sim.charger import SimCharger
from drivers.sim.evse import SimEvse
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

SPEED = 100.0
DEADLINE_S = 10.0
Json = dict[str, Any]


class Central:
    """Answers what a friendly central system answers; remembers every call in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Json]] = []
        self.answers: dict[str, Json | None] = {  # None: stays silent
            "BootNotification": {
                "status": "Accepted",
                "interval": 300,
                "currentTime": "2026-11-22T12:00:00Z",
            },
            "Authorize": {"idTagInfo": {"status": "Accepted"}},
            "StopTransaction": {"idTagInfo": {"status": "Accepted"}},
        }
        self.start_status = "Accepted"
        self.headers: list[Any] = []
        self._changed = asyncio.Condition()
        self._results: dict[str, list[Any]] = {}
        self._socket: ServerConnection | None = None
        self._calls = 0
        self._transactions = 40

    @property
    def up(self) -> bool:
        return self._socket is not None

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.headers.append((socket.request.path, socket.request.headers))
        self._socket = socket
        with contextlib.suppress(ConnectionClosed):
            async for frame in socket:
                await self._take(socket, json.loads(frame))
        if self._socket is socket:
            self._socket = None
        async with self._changed:
            self._changed.notify_all()

    async def _take(self, socket: ServerConnection, message: list[Any]) -> None:
        async with self._changed:
            if message[0] == 2:
                _, id, action, payload = message
                self.heard.append((action, payload))
                answer = self.answers.get(action, {})
                if action == "StartTransaction" and action not in self.answers:
                    self._transactions += 1
                    answer = {"transactionId": self._transactions, "idTagInfo": {"status": self.start_status}}
                if answer is not None:
                    await socket.send(json.dumps([3, id, answer]))
            else:
                self._results[message[1]] = message
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Waits for something that a message or the end of a link brings about."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(condition)
        return condition()

    async def call(self, action: str, payload: Json) -> Any:
        """The answer's payload, or the CALLERROR's code."""
        assert self._socket is not None
        self._calls += 1
        id = f"c{self._calls}"
        await self._socket.send(json.dumps([2, id, action, payload]))
        result = await self.until(lambda: self._results.get(id))
        return result[2]

    async def ping(self) -> None:
        """Returns with the pong."""
        assert self._socket is not None
        async with asyncio.timeout(DEADLINE_S):
            await (await self._socket.ping())

    def all(self, action: str) -> list[Json]:
        return [payload for heard, payload in self.heard if heard == action]

    async def first(self, action: str, **fields: Any) -> Json:
        def found() -> list[Json]:
            return [payload for payload in self.all(action) if fields.items() <= payload.items()]

        result: Json = (await self.until(found))[0]
        return result


class Bench:
    def __init__(self, central: Central, charger: SimCharger, world: World, server: Server) -> None:
        self.central, self.charger, self.world, self.server = central, charger, world, server
        self.port = port_of(server)
        self.evse = charger.connectors[0].evse
        self.clock = world.clock

    def plug(self, **habits: Any) -> Vehicle:
        vehicle = Vehicle(
            **{"id": "VAN", "token": "TAG", "battery_wh": 60_000.0, "soc": 0.3, "max_a": 32.0, **habits}
        )
        self.evse.plug(vehicle)
        return vehicle

    async def session(self) -> int:
        self.plug()
        await self.central.first("StatusNotification", status="Preparing")
        self.evse.present("TAG")
        await self.central.first("StatusNotification", status="Charging")
        await self.eventually(lambda: self.charger.connectors[0].transaction.id is not None)  # type: ignore[union-attr]
        return int(self.charger.connectors[0].transaction.id)  # type: ignore[union-attr,arg-type]

    async def eventually(self, condition: Callable[[], Any]) -> None:
        """Polls physical truth, which tells nobody when it changes."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def drawing(self, amps: float) -> None:
        await self.eventually(lambda: abs(self.evse.current_a[0] - amps) < 0.01)

    def profile(self, purpose: str, amps: float, lease_s: float | None = None, **more: Any) -> Json:
        begin = self.clock.now().utc - timedelta(seconds=60)
        schedule: Json = {
            "chargingRateUnit": "A",
            "startSchedule": begin.isoformat(),
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}],
        }
        if lease_s is not None:
            schedule["duration"] = int(lease_s + 60)
        return {
            "connectorId": 1,
            "csChargingProfiles": {
                "chargingProfileId": 1,
                "stackLevel": 0,
                "chargingProfilePurpose": purpose,
                "chargingProfileKind": "Absolute",
                "chargingSchedule": schedule,
                **more,
            },
        }


def port_of(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


def highest_a(world: World) -> float:
    circuits: Any = world.report()["circuits"]
    return float(circuits["site"]["highest_a"][0])


@asynccontextmanager
async def listening(central: Central, port: int = 0) -> AsyncIterator[Server]:
    async with serve(
        central.handle, "127.0.0.1", port, subprotocols=[Subprotocol("ocpp1.6")], close_timeout=0.5
    ) as server:
        yield server


@asynccontextmanager
async def bench(quirks: Quirks = HONEST, answer_s: float = 5.0, skew_s: float = 0.0) -> AsyncIterator[Bench]:
    central = Central()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(central))
        clock = SystemClock(SPEED)
        evse = SimEvse("CP1/1", max_a=32.0)
        world = World(clock, 1, {"site": SimCircuit(None, 63.0)}, [evse], lambda _: (0.0, 0.0, 0.0))
        charger = SimCharger(
            "CP1",
            f"ws://127.0.0.1:{port_of(server)}/ocpp",
            [evse],
            clock=clock,
            password="s3cret",
            quirks=quirks,
            answer_s=answer_s,
            skew_s=skew_s,
        )
        tasks = [asyncio.create_task(charger.run()), asyncio.create_task(world.run())]
        try:
            await central.first("StatusNotification", connectorId=1)
            yield Bench(central, charger, world, server)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_boots_with_credentials_and_says_how_it_stands() -> None:
    async with bench() as b:
        path, headers = b.central.headers[0]
        assert path == "/ocpp/CP1"
        assert headers["Authorization"] == "Basic " + base64.b64encode(b"CP1:s3cret").decode()
        assert b.central.heard[0][0] == "BootNotification"
        assert [p["status"] for p in b.central.all("StatusNotification")] == ["Available", "Available"]
        assert b.charger.connected


async def test_a_whole_session_with_a_card() -> None:
    async with bench() as b:
        assert await b.central.call(
            "ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "10"}
        ) == {"status": "Accepted"}
        number = await b.session()
        start = (await b.central.first("StartTransaction"))["meterStart"]
        await b.drawing(32.0)
        full = await b.central.until(
            lambda: next((p for p in b.central.all("MeterValues") if "32.00" in json.dumps(p)), None)
        )
        assert full["transactionId"] == number
        values = {(v["measurand"], v.get("phase")): v["value"] for v in full["meterValue"][0]["sampledValue"]}
        assert values["Current.Import", "L3"] == "32.00"
        assert float(values["Power.Active.Import", None]) == 3 * 32 * 230
        assert values["Current.Offered", None] == "32.0"
        assert 30 <= int(values["SoC", None]) <= 40
        b.evse.present("TAG")
        stop = await b.central.first("StopTransaction")
        assert (stop["transactionId"], stop["reason"], stop["idTag"]) == (number, "Local", "TAG")
        assert stop["meterStop"] - start == int(b.evse.register_wh) > 0
        await b.central.first("StatusNotification", status="Finishing")
        b.evse.unplug()
        await b.central.until(lambda: b.central.all("StatusNotification")[-1]["status"] == "Available")
        statuses = [p["status"] for p in b.central.all("StatusNotification") if p["connectorId"] == 1]
        assert statuses[0] == "Available"
        order = [s for s in statuses if s in ("Preparing", "Charging", "Finishing")]
        assert order == ["Preparing", "Charging", "Finishing"]


async def test_no_energy_for_a_refused_card() -> None:
    async with bench() as b:
        b.central.answers["Authorize"] = {"idTagInfo": {"status": "Blocked"}}
        b.plug()
        b.evse.present("TAG")
        await b.central.first("Authorize")
        await b.clock.sleep(10.0)
        assert b.central.all("StartTransaction") == []
        assert b.evse.register_wh == 0.0


async def test_a_refused_start_is_ended_by_the_charger() -> None:
    async with bench() as b:
        b.central.start_status = "ConcurrentTx"
        b.plug()
        b.evse.present("TAG")
        assert (await b.central.first("StopTransaction"))["reason"] == "DeAuthorized"
        assert not b.evse.energised


async def test_unplugging_ends_the_transaction() -> None:
    async with bench() as b:
        await b.session()
        b.evse.unplug()
        assert (await b.central.first("StopTransaction"))["reason"] == "EVDisconnected"


async def test_remote_start_with_a_profile_and_remote_stop() -> None:
    async with bench() as b:
        b.plug()
        raw = b.profile("TxProfile", 10.0)["csChargingProfiles"]
        order = {"idTag": "R", "connectorId": 1, "chargingProfile": raw}
        assert await b.central.call("RemoteStartTransaction", order) == {"status": "Accepted"}
        await b.drawing(10.0)
        assert await b.central.call("RemoteStartTransaction", order) == {"status": "Rejected"}
        number = b.charger.connectors[0].transaction.id  # type: ignore[union-attr]
        assert await b.central.call("RemoteStopTransaction", {"transactionId": number}) == {
            "status": "Accepted"
        }
        assert (await b.central.first("StopTransaction"))["reason"] == "Remote"
        assert await b.central.call("RemoteStopTransaction", {"transactionId": number}) == {
            "status": "Rejected"
        }
        assert b.charger.flash.profiles == ()


async def test_an_expired_lease_falls_back_to_the_stored_default() -> None:
    async with bench() as b:
        assert await b.central.call("SetChargingProfile", b.profile("TxDefaultProfile", 6.0)) == {
            "status": "Accepted"
        }
        number = await b.session()
        await b.drawing(6.0)
        lease = b.profile("TxProfile", 20.0, 150.0, chargingProfileId=2, stackLevel=5, transactionId=number)
        assert await b.central.call("SetChargingProfile", lease) == {"status": "Accepted"}
        given_s = b.clock.now().mono_s
        asked = await b.central.call("GetCompositeSchedule", {"connectorId": 1, "duration": 300})
        periods = asked["chargingSchedule"]["chargingSchedulePeriod"]
        assert [period["limit"] for period in periods] == [20.0, 6.0]
        await b.drawing(20.0)
        b.charger.drop_link(away_s=1200.0)  # nobody is there to lower it
        await b.drawing(6.0)
        assert 145.0 < b.clock.now().mono_s - given_s < 1000.0
        assert b.charger.connectors[0].transaction is not None


async def test_a_limit_below_the_minimum_pauses() -> None:
    async with bench() as b:
        number = await b.session()
        pause = b.profile("TxProfile", 5.0, transactionId=number)
        await b.central.call("SetChargingProfile", pause)
        await b.drawing(0.0)
        await b.central.first("StatusNotification", status="SuspendedEVSE")


async def test_wrong_profiles_are_rejected() -> None:
    async with bench() as b:
        assert await b.central.call("SetChargingProfile", b.profile("TxProfile", 9.0)) == {
            "status": "Rejected"
        }
        number = await b.session()
        for wrong in (
            b.profile("TxProfile", 9.0, transactionId=number + 1),
            b.profile("ChargePointMaxProfile", 9.0),
            b.profile("TxDefaultProfile", 9.0, stackLevel=99),
            {**b.profile("TxDefaultProfile", 9.0), "connectorId": 7},
        ):
            assert await b.central.call("SetChargingProfile", wrong) == {"status": "Rejected"}
        assert await b.central.call("SetChargingProfile", {"connectorId": 1}) == "FormationViolation"
        assert await b.central.call("GetBaseReport", {"requestId": 1}) == "NotImplemented"
        assert b.charger.flash.profiles == ()


async def test_charges_on_offline_and_replays_in_order_with_the_old_times() -> None:
    async with bench() as b:
        number = await b.session()
        b.server.close()
        await b.server.wait_closed()
        await b.eventually(lambda: not b.charger.connected)
        heard = len(b.central.heard)
        register_wh = b.evse.register_wh
        await b.eventually(lambda: b.evse.register_wh > register_wh + 50)
        b.evse.unplug()
        await b.eventually(lambda: b.charger.connectors[0].transaction is None)
        b.plug()
        b.evse.present("TAG")  # known from before: the authorisation cache lets it start
        await b.eventually(lambda: b.charger.connectors[0].transaction is not None)
        happened = b.clock.now().utc
        async with listening(b.central, b.port):
            await b.central.until(lambda: len(b.central.all("StartTransaction")) == 2)
        replay = [(a, p) for a, p in b.central.heard[heard:] if a in ("StopTransaction", "StartTransaction")]
        assert [action for action, _ in replay] == ["StopTransaction", "StartTransaction"]
        assert replay[0][1]["transactionId"] == number
        assert replay[0][1]["meterStop"] - replay[1][1]["meterStart"] == 0
        assert all(datetime.fromisoformat(payload["timestamp"]) < happened for _, payload in replay)
        assert b.central.heard[heard][0] == "BootNotification"


async def test_an_unknown_card_offline_gets_nothing() -> None:
    async with bench() as b:
        b.charger.drop_link(away_s=600.0)
        await b.central.until(lambda: not b.central.up)
        b.plug()
        b.evse.present("NEVER-SEEN")
        await b.clock.sleep(20.0)
        assert b.charger.connectors[0].transaction is None


async def test_an_unanswered_start_is_repeated_until_answered() -> None:
    quirks = Quirks(
        configuration={"TransactionMessageRetryInterval": "2", "TransactionMessageAttempts": "100"}
    )
    async with bench(quirks, answer_s=0.1) as b:
        b.central.answers["StartTransaction"] = None
        b.plug()
        b.evse.present("TAG")
        await b.central.until(lambda: len(b.central.all("StartTransaction")) >= 2)
        assert b.central.all("StartTransaction")[0] == b.central.all("StartTransaction")[1]
        del b.central.answers["StartTransaction"]
        await b.eventually(lambda: b.charger.flash.records == [])
        assert b.charger.connectors[0].transaction.id is not None  # type: ignore[union-attr]


async def test_a_reboot_ends_transactions_and_keeps_what_is_in_flash() -> None:
    async with bench() as b:
        await b.central.call("SetChargingProfile", b.profile("TxDefaultProfile", 6.0))
        number = await b.session()
        lease = b.profile("TxProfile", 20.0, 600.0, chargingProfileId=2, stackLevel=5, transactionId=number)
        await b.central.call("SetChargingProfile", lease)
        b.charger.reboot()
        assert b.evse.energised is False
        stop = await b.central.first("StopTransaction")
        assert (stop["reason"], stop["transactionId"]) == ("PowerLoss", number)
        assert len(b.central.all("BootNotification")) == 2
        await b.eventually(lambda: b.charger.connected)
        b.evse.present("TAG")
        await b.drawing(6.0)


async def test_boots_at_hardware_maximum_when_nothing_is_stored() -> None:
    async with bench() as b:
        await b.session()
        await b.drawing(32.0)


async def test_reset_answers_first_and_comes_back() -> None:
    async with bench() as b:
        assert await b.central.call("Reset", {"type": "Hard"}) == {"status": "Accepted"}
        await b.central.until(lambda: len(b.central.all("BootNotification")) == 2)


async def test_silence_is_deaf_to_pings_too() -> None:
    async with bench() as b:
        b.charger.go_silent(40.0)
        began_s = b.clock.now().mono_s
        await asyncio.sleep(0)  # the silence begins
        await b.central.ping()
        assert b.clock.now().mono_s - began_s >= 40.0


async def test_silence_answers_late() -> None:
    async with bench() as b:
        b.charger.go_silent(40.0)
        began_s = b.clock.now().mono_s
        await asyncio.sleep(0)
        await b.central.call("TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert b.clock.now().mono_s - began_s >= 40.0
        await b.central.first("Heartbeat")
        assert len(b.central.headers) == 1


async def test_dials_until_somebody_is_there() -> None:
    async with bench() as b:
        b.server.close()
        await b.server.wait_closed()
        await b.eventually(lambda: not b.charger.connected)
        await b.clock.sleep(10.0)  # some of its tries find nobody
        async with listening(b.central, b.port):
            await b.central.until(lambda: len(b.central.all("BootNotification")) == 2)


async def test_configuration_availability_and_triggers() -> None:
    async with bench() as b:
        call = b.central.call
        got = await call("GetConfiguration", {"key": ["NumberOfConnectors", "Nonsense"]})
        assert got["configurationKey"] == [{"key": "NumberOfConnectors", "readonly": True, "value": "1"}]
        assert got["unknownKey"] == ["Nonsense"]
        for key, value, status in (
            ("NumberOfConnectors", "2", "Rejected"),
            ("ConnectionTimeOut", "soon", "Rejected"),
            ("Nonsense", "1", "NotSupported"),
            ("ConnectionTimeOut", "90", "Accepted"),
        ):
            assert await call("ChangeConfiguration", {"key": key, "value": value}) == {"status": status}
        assert await call(
            "ChangeConfiguration", {"key": "AuthorizationKey", "value": b"new secret".hex()}
        ) == {"status": "Accepted"}
        assert "AuthorizationKey" not in json.dumps(await call("GetConfiguration", {}))
        assert await call("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}) == {
            "status": "Accepted"
        }
        await b.central.first("StatusNotification", status="Unavailable")
        assert await call("RemoteStartTransaction", {"idTag": "R"}) == {"status": "Rejected"}
        assert await call("ChangeAvailability", {"connectorId": 0, "type": "Operative"}) == {
            "status": "Accepted"
        }
        assert await call("TriggerMessage", {"requestedMessage": "MeterValues", "connectorId": 1}) == {
            "status": "Accepted"
        }
        sample = (await b.central.first("MeterValues"))["meterValue"][0]["sampledValue"][0]
        assert sample["context"] == "Trigger"
        assert await call("TriggerMessage", {"requestedMessage": "TransactionEvent"}) == {
            "status": "NotImplemented"
        }
        assert await call("ClearChargingProfile", {"id": 5}) == {"status": "Unknown"}
        b.charger.drop_link()
        await b.central.until(lambda: len(b.central.headers) == 2)
        secret = base64.b64decode(b.central.headers[1][1]["Authorization"].removeprefix("Basic "))
        assert secret == b"CP1:new secret"


async def test_a_fault_is_reported_and_ends_the_transaction() -> None:
    async with bench() as b:
        await b.session()
        b.evse.break_down("GroundFailure")
        told = await b.central.first("StatusNotification", status="Faulted")
        assert told["errorCode"] == "GroundFailure"
        assert (await b.central.first("StopTransaction"))["reason"] == "Other"


async def test_its_own_clock_may_be_wrong() -> None:
    async with bench(skew_s=-7200.0) as b:
        told = (await b.central.first("StatusNotification", connectorId=1))["timestamp"]
        behind = b.clock.now().utc - datetime.fromisoformat(told)
        assert timedelta(hours=2) <= behind < timedelta(hours=2, minutes=5)


async def test_quirk_ignores_limits() -> None:
    async with bench(Quirks(ignores_limits=True)) as b:
        number = await b.session()
        accepted = await b.central.call(
            "SetChargingProfile", b.profile("TxProfile", 8.0, transactionId=number)
        )
        assert accepted == {"status": "Accepted"}
        await b.drawing(32.0)
        await b.clock.sleep(20.0)
        assert abs(b.evse.current_a[0] - 32.0) < 0.01


async def test_quirk_ignores_expiry() -> None:
    async with bench(Quirks(ignores_expiry=True)) as b:
        number = await b.session()
        await b.central.call("SetChargingProfile", b.profile("TxProfile", 8.0, 5.0, transactionId=number))
        await b.drawing(8.0)
        await b.clock.sleep(30.0)
        assert abs(b.evse.current_a[0] - 8.0) < 0.01


async def test_quirk_spike_after_every_write() -> None:
    async with bench(Quirks(spike_after_write_s=60.0)) as b:
        await b.central.call("SetChargingProfile", b.profile("TxDefaultProfile", 6.0))
        number = await b.session()
        await b.drawing(6.0)
        assert highest_a(b.world) < 6.01
        await b.central.call("SetChargingProfile", b.profile("TxProfile", 8.0, transactionId=number))
        await b.drawing(8.0)
        await b.eventually(lambda: highest_a(b.world) > 31.9)
        await b.drawing(8.0)


async def test_quirk_refuses_tx_profile() -> None:
    async with bench(Quirks(refuses_tx_profile=True)) as b:
        number = await b.session()
        answer = await b.central.call("SetChargingProfile", b.profile("TxProfile", 8.0, transactionId=number))
        assert answer == {"status": "Rejected"}


async def test_quirks_of_records_and_registers() -> None:
    quirks = Quirks(stop_without_tag=True, duplicate_start=True, resets_register=True)
    async with bench(quirks) as b:
        b.evse.register_wh = 5000.0
        await b.session()
        b.evse.present("TAG")
        assert "idTag" not in await b.central.first("StopTransaction")
        starts = b.central.all("StartTransaction")
        assert len(starts) == 2 and starts[0] == starts[1]
        assert starts[0]["meterStart"] == 0


async def test_quirk_reacts_late() -> None:
    async with bench(Quirks(reaction_s=30.0)) as b:
        number = await b.session()
        await b.drawing(32.0)
        await b.central.call("SetChargingProfile", b.profile("TxProfile", 8.0, transactionId=number))
        accepted_s = b.clock.now().mono_s
        await b.drawing(8.0)
        assert b.clock.now().mono_s - accepted_s >= 30.0


async def test_quirks_of_the_conversation() -> None:
    quirks = Quirks(
        silent_reconnect=True,
        no_meter_values=True,
        not_supported=frozenset({"TriggerMessage"}),
        configuration={"ChargingScheduleAllowedChargingRateUnit": "Power"},
    )
    async with bench(quirks) as b:
        assert await b.central.call("TriggerMessage", {"requestedMessage": "MeterValues"}) == "NotSupported"
        got = await b.central.call("GetConfiguration", {"key": ["ChargingScheduleAllowedChargingRateUnit"]})
        assert got["configurationKey"][0]["value"] == "Power"
        b.charger.drop_link()
        await b.central.until(lambda: len(b.central.all("StatusNotification")) == 4)
        assert len(b.central.all("BootNotification")) == 1


async def test_quirks_of_the_profile_memory() -> None:
    async with bench(Quirks(stack_levels=frozenset({0}), only_relative=True)) as b:
        relative = b.profile("TxDefaultProfile", 8.0, chargingProfileKind="Relative")
        assert await b.central.call("SetChargingProfile", relative) == {"status": "Accepted"}
        absolute = b.profile("TxDefaultProfile", 8.0)
        assert await b.central.call("SetChargingProfile", absolute) == {"status": "Rejected"}
        higher = b.profile("TxDefaultProfile", 8.0, chargingProfileKind="Relative", stackLevel=1)
        assert await b.central.call("SetChargingProfile", higher) == {"status": "Rejected"}


async def test_quirk_a_pause_ends_the_transaction() -> None:
    async with bench(Quirks(pause_ends=True)) as b:
        number = await b.session()
        await b.central.call("SetChargingProfile", b.profile("TxProfile", 0.0, transactionId=number))
        assert (await b.central.first("StopTransaction"))["transactionId"] == number
        await b.central.first("StatusNotification", status="Finishing")


async def test_quirk_forgets_the_stop_when_the_power_goes() -> None:
    async with bench(Quirks(forgets_stop=True)) as b:
        number = await b.session()
        await b.central.call("SetChargingProfile", b.profile("TxProfile", 8.0, transactionId=number))
        b.charger.reboot()
        assert b.charger.flash.profiles == ()
        await b.central.until(lambda: len(b.central.all("BootNotification")) == 2)
        await b.eventually(lambda: b.charger.connected)
        b.evse.unplug()
        await b.central.until(lambda: b.central.all("StatusNotification")[-1]["status"] == "Available")
        assert b.central.all("StopTransaction") == []


async def test_quirks_of_answers() -> None:
    async with bench(Quirks(answers_after_s=30.0, unanswered=frozenset({"Reset"}))) as b:
        asking = asyncio.create_task(b.central.call("Reset", {"type": "Hard"}))
        asked_s = b.clock.now().mono_s
        await b.central.call("ClearCache", {})
        assert b.clock.now().mono_s - asked_s >= 30.0
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
