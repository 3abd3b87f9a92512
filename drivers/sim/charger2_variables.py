"""The device model of a simulated OCPP 2.x station: components, variables, what may be written, and the reports.

Owns the factory values and the checks of SetVariables. Small but honest: what stands here has an effect, or is true.
Must not act on anything: who needs a variable reads it. Source: OCPP 2.0.1 B05-B08, appendix "Referenced
Components and Variables".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from drivers.sim.outbox import Json

MEASURANDS = (
    "Energy.Active.Import.Register,Energy.Active.Export.Register,Current.Import,Current.Export,"
    "Power.Active.Import,Power.Active.Export,Current.Offered,Voltage,SoC"
)
SAMPLED = (
    "Energy.Active.Import.Register,Current.Import,Power.Active.Import,Current.Offered,Voltage,SoC,"
    "Energy.Active.Export.Register,Power.Active.Export"
)
TX_POINTS = "EVConnected,Authorized,PowerPathClosed,EnergyTransfer"
ITEMS = 50  # of every request that has a limit of items
PASSWORD = ("SecurityCtrlr", "BasicAuthPassword")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a variable lives, as OCPP names it. `evse` None: the station."""

    component: str
    variable: str
    instance: str | None = None  # of the variable; no component of ours has instances
    evse: int | None = None
    connector: int | None = None

    def words(self) -> Json:
        component: Json = {"name": self.component}
        if self.evse is not None:
            component["evse"] = {"id": self.evse}
            if self.connector is not None:
                component["evse"]["connectorId"] = self.connector
        variable: Json = {"name": self.variable}
        if self.instance is not None:
            variable["instance"] = self.instance
        return {"component": component, "variable": variable}


@dataclass(frozen=True, slots=True)
class Nature:
    """`kind` is OCPP's data type. `choices`: the only words it takes. `reboot`: takes effect after one."""

    kind: str = "string"
    mutability: str = "ReadOnly"
    unit: str | None = None
    lowest: float | None = None
    highest: float | None = None
    choices: str | None = None
    reboot: bool = False
    monitored: bool = False

    def fits(self, value: str) -> bool:
        if self.kind in ("integer", "decimal"):
            try:
                number = int(value) if self.kind == "integer" else float(value)
            except ValueError:
                return False
            return (self.lowest is None or number >= self.lowest) and (
                self.highest is None or number <= self.highest
            )
        if self.kind == "boolean":
            return value in ("true", "false")
        if self.choices is not None:
            chosen = value.split(",") if self.kind in ("MemberList", "SequenceList") else [value]
            return (value == "" and self.kind != "OptionList") or set(chosen) <= set(self.choices.split(","))
        return len(value) <= 1000

    def words(self) -> Json:
        return {
            key: value
            for key, value in (
                ("dataType", self.kind),
                ("unit", self.unit),
                ("minLimit", self.lowest),
                ("maxLimit", self.highest),
                ("valuesList", self.choices),
                ("supportsMonitoring", self.monitored),
            )
            if value is not None
        }


@dataclass(slots=True)
class Variables:
    """`values` survive a reboot; `live` are asked when somebody reads them."""

    natures: dict[Place, Nature] = field(default_factory=dict)
    values: dict[Place, str] = field(default_factory=dict)
    live: dict[Place, Callable[[], str]] = field(default_factory=dict)

    def text(self, component: str, variable: str, instance: str | None = None) -> str:
        return self.values[Place(component, variable, instance)]

    def number(self, component: str, variable: str, instance: str | None = None) -> int:
        return int(self.text(component, variable, instance))

    def says_yes(self, component: str, variable: str) -> bool:
        return self.text(component, variable) == "true"

    def names(self, component: str, variable: str) -> set[str]:
        return {name for name in self.text(component, variable).split(",") if name}

    def now(self, place: Place) -> str:
        asked = self.live.get(place)
        return self.values[place] if asked is None else asked()

    def heartbeat_s(self) -> float:
        return self.number("OCPPCommCtrlr", "HeartbeatInterval")

    def keep_heartbeat(self, seconds: int) -> None:
        self.values[Place("OCPPCommCtrlr", "HeartbeatInterval")] = str(seconds)

    def record_tries(self) -> tuple[int, float]:
        def of_events(variable: str) -> int:
            return self.number("OCPPCommCtrlr", variable, "TransactionEvent")

        return of_events("MessageAttempts"), of_events("MessageAttemptInterval")

    def find(self, raw: Json) -> Place | str:
        """The place a request names, or which of its two names is unknown. KeyError: no such request."""
        component, variable = raw["component"], raw["variable"]
        evse = component.get("evse") or {}
        place = Place(
            str(component["name"]),
            str(variable["name"]),
            variable.get("instance"),
            evse.get("id"),
            evse.get("connectorId"),
        )
        if place in self.natures and component.get("instance") is None:
            return place
        where = (place.component, place.evse, place.connector)
        known = any((one.component, one.evse, one.connector) == where for one in self.natures)
        return "UnknownVariable" if known else "UnknownComponent"

    def read(self, raw: Json) -> Json:
        """One getVariableResult."""
        place = self.find(raw)
        answer: Json = {"component": raw["component"], "variable": raw["variable"]}
        if "attributeType" in raw:
            answer["attributeType"] = raw["attributeType"]
        if isinstance(place, str):
            return {**answer, "attributeStatus": place}
        if raw.get("attributeType", "Actual") != "Actual":
            return {**answer, "attributeStatus": "NotSupportedAttributeType"}
        if self.natures[place].mutability == "WriteOnly":
            return {**answer, "attributeStatus": "Rejected"}
        return {**answer, "attributeStatus": "Accepted", "attributeValue": self.now(place)}

    def write(self, raw: Json) -> tuple[Json, Place | None]:
        """One setVariableResult, and the place that has changed."""
        place = self.find(raw)
        answer: Json = {"component": raw["component"], "variable": raw["variable"]}
        if "attributeType" in raw:
            answer["attributeType"] = raw["attributeType"]
        if isinstance(place, str):
            return {**answer, "attributeStatus": place}, None
        if raw.get("attributeType", "Actual") != "Actual":
            return {**answer, "attributeStatus": "NotSupportedAttributeType"}, None
        nature, value = self.natures[place], str(raw["attributeValue"])
        if nature.mutability == "ReadOnly" or not nature.fits(value):
            reason = "ReadOnly" if nature.mutability == "ReadOnly" else "ValueOutOfRange"
            return {
                **answer,
                "attributeStatus": "Rejected",
                "attributeStatusInfo": {"reasonCode": reason},
            }, None
        self.values[place] = value
        return {**answer, "attributeStatus": "RebootRequired" if nature.reboot else "Accepted"}, place

    def report(self, only: Callable[[Place, Nature], bool]) -> list[Json]:
        """ReportDataType of all places that pass `only`."""
        return [
            {
                **place.words(),
                "variableAttribute": [self._attribute(place, nature)],
                "variableCharacteristics": nature.words(),
            }
            for place, nature in self.natures.items()
            if only(place, nature)
        ]

    def _attribute(self, place: Place, nature: Nature) -> Json:
        attribute: Json = {"type": "Actual", "mutability": nature.mutability}
        if nature.mutability != "WriteOnly":
            attribute["value"] = self.now(place)
        return attribute

    def put(self, place: Place, value: str | Callable[[], str], nature: Nature) -> None:
        self.natures[place] = nature
        if callable(value):
            self.live[place] = value
        else:
            self.values[place] = value


def factory(overrides: Mapping[str, str]) -> Variables:
    """A station as it left the factory, but for `overrides`: "Component.Variable" or "Component.Variable.Instance"."""
    made = Variables()
    for name, value, nature in _rows():
        component, variable, instance, *_ = [*name.split("."), None]
        assert component is not None and variable is not None
        made.put(Place(component, variable, instance), overrides.get(name, value), nature)
    return made


def _rows() -> Iterator[tuple[str, str, Nature]]:
    yes = Nature("boolean", "ReadWrite")
    fixed_number, on = Nature("integer"), Nature("boolean")

    def seconds(lowest: int = 0, highest: int = 86400) -> Nature:
        return Nature("integer", "ReadWrite", "s", lowest, highest)

    def members(choices: str) -> Nature:
        return Nature("MemberList", "ReadWrite", choices=choices)

    yield "AlignedDataCtrlr.Interval", "0", seconds()
    yield "AlignedDataCtrlr.Measurands", "Energy.Active.Import.Register", members(MEASURANDS)
    yield "AlignedDataCtrlr.SendDuringIdle", "false", yes
    yield "AlignedDataCtrlr.TxEndedInterval", "0", Nature("integer", unit="s")
    yield "AlignedDataCtrlr.TxEndedMeasurands", "", Nature("MemberList")
    yield "AuthCacheCtrlr.Enabled", "true", yes
    yield "AuthCtrlr.AuthorizeRemoteStart", "false", yes
    yield "AuthCtrlr.LocalAuthorizeOffline", "true", yes
    yield "AuthCtrlr.LocalPreAuthorize", "false", yes
    yield "AuthCtrlr.OfflineTxForUnknownIdEnabled", "false", yes
    yield "ClockCtrlr.TimeSource", "Heartbeat", Nature("SequenceList", choices="Heartbeat")
    yield "CustomizationCtrlr.CustomImplementationEnabled", "false", on
    for action in ("GetReport", "GetVariables", "SetVariables"):
        yield f"DeviceDataCtrlr.ItemsPerMessage.{action}", str(ITEMS), fixed_number
        yield f"DeviceDataCtrlr.BytesPerMessage.{action}", "60000", fixed_number
    yield "DisplayMessageCtrlr.NumberOfDisplayMessages", "10", fixed_number
    yield "DisplayMessageCtrlr.SupportedFormats", "ASCII,UTF8", Nature("MemberList")
    yield "DisplayMessageCtrlr.SupportedPriorities", "AlwaysFront,InFront,NormalCycle", Nature("MemberList")
    yield "LocalAuthListCtrlr.Enabled", "true", yes
    yield "LocalAuthListCtrlr.ItemsPerMessage", "500", fixed_number
    yield "LocalAuthListCtrlr.BytesPerMessage", "60000", fixed_number
    yield "MonitoringCtrlr.Enabled", "true", on
    yield "MonitoringCtrlr.ItemsPerMessage.SetVariableMonitoring", str(ITEMS), fixed_number
    yield "MonitoringCtrlr.BytesPerMessage.SetVariableMonitoring", "60000", fixed_number
    yield "OCPPCommCtrlr.FileTransferProtocols", "HTTP,HTTPS", Nature("MemberList")
    yield "OCPPCommCtrlr.HeartbeatInterval", "300", seconds(1)
    yield "OCPPCommCtrlr.MessageAttemptInterval.TransactionEvent", "30", seconds()
    yield "OCPPCommCtrlr.MessageAttempts.TransactionEvent", "5", Nature("integer", "ReadWrite", None, 1, 100)
    yield "OCPPCommCtrlr.MessageTimeout.Default", "20", Nature("integer", unit="s")
    yield "OCPPCommCtrlr.NetworkConfigurationPriority", "0", Nature("SequenceList", "ReadWrite", reboot=True)
    yield "OCPPCommCtrlr.NetworkProfileConnectionAttempts", "3", Nature("integer", "ReadWrite", None, 1, 100)
    yield "OCPPCommCtrlr.OfflineThreshold", "60", seconds()
    yield "OCPPCommCtrlr.ResetRetries", "0", fixed_number
    yield "OCPPCommCtrlr.UnlockOnEVSideDisconnect", "true", on
    yield "OCPPCommCtrlr.WebSocketPingInterval", "0", Nature("integer", unit="s")
    yield "ReservationCtrlr.Enabled", "true", yes
    yield "ReservationCtrlr.NonEvseSpecific", "true", on
    yield "SampledDataCtrlr.TxEndedInterval", "0", Nature("integer", unit="s")
    yield "SampledDataCtrlr.TxEndedMeasurands", SAMPLED, members(MEASURANDS)
    yield "SampledDataCtrlr.TxStartedMeasurands", SAMPLED, members(MEASURANDS)
    yield "SampledDataCtrlr.TxUpdatedInterval", "60", seconds()
    yield "SampledDataCtrlr.TxUpdatedMeasurands", SAMPLED, members(MEASURANDS)
    yield "SecurityCtrlr.BasicAuthPassword", "", Nature("string", "WriteOnly")
    yield "SecurityCtrlr.CertificateEntries", "20", fixed_number
    yield "SecurityCtrlr.OrganizationName", "Depot", Nature("string", "ReadWrite")
    yield "SecurityCtrlr.SecurityProfile", "1", fixed_number
    yield "SmartChargingCtrlr.Available", "true", on
    yield "SmartChargingCtrlr.Enabled", "true", yes
    yield (
        "SmartChargingCtrlr.LimitChangeSignificance",
        "1.0",
        Nature("decimal", "ReadWrite", "Percent", 0, 100),
    )
    yield "SmartChargingCtrlr.PeriodsPerSchedule", "48", fixed_number
    yield "SmartChargingCtrlr.Phases3to1", "false", on
    yield "SmartChargingCtrlr.ProfileStackLevel", "9", fixed_number
    yield "SmartChargingCtrlr.RateUnit", "A,W", Nature("MemberList", choices="A,W")
    yield "TxCtrlr.EVConnectionTimeOut", "120", seconds()
    yield "TxCtrlr.StopTxOnEVSideDisconnect", "true", on
    yield "TxCtrlr.StopTxOnInvalidId", "true", yes
    yield "TxCtrlr.TxStartPoint", "EVConnected,Authorized", members(TX_POINTS)
    yield "TxCtrlr.TxStopPoint", "EVConnected,Authorized", members("EVConnected,Authorized,PowerPathClosed")
