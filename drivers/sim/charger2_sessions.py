"""The will of a simulated OCPP 2.x station about its drivers: who may charge, and what a transaction is.

Owns authorization (own list and cache, offline rules), the start and stop points of transactions, and their events
in order. Must not know how events travel. Source: OCPP 2.0.1 part 2 C, E, F, J02.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from drivers.sim.cards import Card, reserved
from drivers.sim.charger2_evse import CONNECTOR, EventRecord, Evse, Permit, Transaction
from drivers.sim.outbox import Json, Slip
from drivers.sim.stamps import read_time, stamp

if TYPE_CHECKING:
    from controller.core.model import Moment
    from drivers.sim.charger2 import SimStation

log = logging.getLogger(__name__)

LET_GO = {"Authorized", "PowerPathClosed"}  # stop points that end when the permit ends


class Sessions:
    def __init__(self, station: SimStation) -> None:
        self._station = station
        self._memory = station.memory
        self._variables = station.memory.variables

    # --- who may charge -------------------------------------------------------------------------------------------

    def authorize(self, evse: Evse, token: Json, remote_id: int | None = None) -> None:
        """Asks itself, the central system, or its rules for being alone."""
        known = self._memory.cards.known(str(token["idToken"]))
        early = self._variables.says_yes("AuthCtrlr", "LocalPreAuthorize")
        if early and known is not None and known.accepted(self._station.utc()):
            self._judged(evse, token, remote_id, known)
        elif not self._station.voice.online:
            self._alone(evse, token, remote_id)
        else:
            self._station.voice.outbox.put(
                f"authorize/{evse.number}",
                Slip(
                    "Authorize",
                    {"idToken": token},
                    lambda answer: self._answered(evse, token, remote_id, answer),
                ),
            )

    def allow(self, evse: Evse, token: Json, group: str | None, remote_id: int | None = None) -> None:
        """Charging starts with the cable, or never if that does not come in time."""
        wait_s = self._variables.number("TxCtrlr", "EVConnectionTimeOut")
        evse.permit = Permit(token, group, self._station.clock.now().mono_s + wait_s, remote_id)
        evse.finished = False

    def may_use(self, evse: Evse, token: Json, group: str | None) -> bool:
        held = reserved(self._memory.reservations.values(), evse.number)
        return held is None or held.serves(str(token["idToken"]), group)

    def _answered(self, evse: Evse, token: Json, remote_id: int | None, answer: Json | None) -> None:
        if answer is None:
            self._alone(evse, token, remote_id)
            return
        card = read_card(answer.get("idTokenInfo"))
        self._memory.cards.remember(str(token["idToken"]), card)
        self._judged(evse, token, remote_id, card)

    def _alone(self, evse: Evse, token: Json, remote_id: int | None) -> None:
        accepted = self._memory.cards.accepted_alone(
            str(token["idToken"]),
            self._station.utc(),
            known=self._variables.says_yes("AuthCtrlr", "LocalAuthorizeOffline"),
            unknown=self._variables.says_yes("AuthCtrlr", "OfflineTxForUnknownIdEnabled"),
        )
        known = self._memory.cards.known(str(token["idToken"]))
        group = None if known is None else known.group
        self._judged(evse, token, remote_id, Card("Accepted" if accepted else "Unknown", group))

    def _judged(self, evse: Evse, token: Json, remote_id: int | None, card: Card) -> None:
        transaction = evse.transaction
        if card.status != "Accepted":
            log.info("%s: EVSE %d: token is %s", self._station.station_id, evse.number, card.status)
        elif transaction is not None and evse.permit is not None:
            if card.group is not None and card.group == transaction.group:
                self.withdraw(evse, "StopAuthorized", "Local", token)
        elif self.may_use(evse, token, card.group):
            self.allow(evse, token, card.group, remote_id)
        self._station.look()

    def _presented(self, evse: Evse, card: str) -> None:
        token = {"idToken": card, "type": "ISO14443"}
        permit = evse.permit
        if permit is None or evse.transaction is None:
            self.authorize(evse, token)
        elif str(permit.token["idToken"]).casefold() == card.casefold():
            self.withdraw(evse, "StopAuthorized", "Local", token)
        elif evse.transaction.group is not None:
            self.authorize(evse, token)

    # --- transactions -----------------------------------------------------------------------------------------------

    def look(self, evse: Evse, now: Moment) -> None:
        """Cards, cables, faults and time; afterwards contactor, limit and transaction fit together."""
        card = evse.evse.take_card()
        if card is not None:
            self._presented(evse, card)
        transaction = evse.transaction
        if evse.evse.fault is not None:
            self.end(
                evse, "AbnormalCondition", "GroundFault" if evse.evse.fault == "GroundFailure" else "Other"
            )
        elif transaction is not None and transaction.told_plugged and not evse.plugged:
            self.end(evse, "EVCommunicationLost", "EVDisconnected")
        elif evse.permit is not None and not evse.plugged and now.mono_s >= evse.permit.until_s:
            self.end(evse, "EVConnectTimeout", "Timeout")
            self._memory.forget_transaction(evse.number)
        evse.finished = evse.finished and evse.plugged
        may = evse.transaction is not None or self._station.operative(evse)
        evse.evse.energised = evse.permit is not None and evse.plugged and may and evse.evse.fault is None
        self._station.offer(evse, now)
        if evse.transaction is not None:
            self._follow(evse, evse.transaction, now)
        elif may and not evse.finished and evse.evse.fault is None and self._starts(evse):
            self._start(evse, now)
            self._station.offer(evse, now)

    def end(self, evse: Evse, trigger: str, reason: str, token: Json | None = None) -> None:
        """Whatever was going on is over: contactor open, event written, its profiles gone."""
        transaction = evse.transaction
        evse.permit = None
        evse.evse.energised = False
        if transaction is None:
            return
        more: Json = {} if token is None else {"idToken": token}
        measurands = self._variables.names("SampledDataCtrlr", "TxEndedMeasurands")
        values = evse.sample(measurands, "Transaction.End")
        self._event(evse, transaction, "Ended", trigger, values, more, {"stoppedReason": reason})
        evse.transaction = None
        evse.finished = evse.plugged
        self._memory.forget_transaction(evse.number)

    def withdraw(self, evse: Evse, trigger: str, reason: str, token: Json | None = None) -> None:
        """The permit ends; the transaction only if a stop point says so."""
        if self._variables.names("TxCtrlr", "TxStopPoint") & LET_GO:
            self.end(evse, trigger, reason, token)
            return
        evse.permit = None
        evse.evse.energised = False
        if evse.transaction is not None:
            more: Json = {} if token is None else {"idToken": token}
            self._event(evse, evse.transaction, "Updated", trigger, [], more)

    def report_values(self, evse: Evse, trigger: str, context: str, measurands: set[str]) -> None:
        """An event that is about what is measured; none without a transaction."""
        if evse.transaction is None or self._station.quirks.no_meter_values:
            return
        values = evse.sample(measurands, context)
        self._event(evse, evse.transaction, "Updated", trigger, values)

    def delivered(self, record: EventRecord, answer: Json) -> None:
        """What the central system thinks of the token in an event."""
        token, info = record.payload.get("idToken"), answer.get("idTokenInfo")
        if not isinstance(info, dict) or token is None:
            return
        card = read_card(info)
        self._memory.cards.remember(str(token["idToken"]), card)
        evse = next((one for one in self._station.evses if one.transaction is record.transaction), None)
        if evse is None:
            return
        record.transaction.group = card.group
        if card.status == "Accepted":
            return
        if self._variables.says_yes("TxCtrlr", "StopTxOnInvalidId"):
            self.end(evse, "Deauthorized", "DeAuthorized")
        elif evse.permit is not None:
            evse.permit = None
            evse.evse.energised = False
            self._event(evse, record.transaction, "Updated", "Deauthorized", [])

    def _starts(self, evse: Evse) -> bool:
        return bool(self._variables.names("TxCtrlr", "TxStartPoint") & evse.facts())

    def _start(self, evse: Evse, now: Moment) -> None:
        if self._station.quirks.resets_register:
            evse.zero_register()
        transaction = Transaction(self._station.utc())
        evse.transaction, evse.shown_cost = transaction, None
        every_s = self._variables.number("SampledDataCtrlr", "TxUpdatedInterval")
        transaction.sample_due_s = now.mono_s + every_s
        more: Json = {}
        held = reserved(self._memory.reservations.values(), evse.number)
        if held is not None and evse.permit is not None:
            more["reservationId"] = self._memory.reservations.pop(held.id).id
        measurands = self._variables.names("SampledDataCtrlr", "TxStartedMeasurands")
        values = evse.sample(measurands, "Transaction.Begin")
        trigger = "CablePluggedIn" if evse.permit is None else _why(evse.permit)
        self._event(evse, transaction, "Started", trigger, values, more)

    def _follow(self, evse: Evse, transaction: Transaction, now: Moment) -> None:
        if evse.plugged and not transaction.told_plugged:
            self._event(evse, transaction, "Updated", "CablePluggedIn", [])
        if evse.permit is not None and evse.permit is not transaction.told_permit:
            self._event(evse, transaction, "Updated", _why(evse.permit), [])
        state, offered_a = evse.charging_state(), evse.evse.offered_a
        if state != transaction.told_state:
            self._event(evse, transaction, "Updated", "ChargingStateChanged", [])
        elif state == "Charging" and self._significant(offered_a, transaction.told_offer_a):
            self._event(evse, transaction, "Updated", "ChargingRateChanged", [])
        if self._station.quirks.pause_ends and evse.evse.energised and state == "SuspendedEVSE":
            self.end(evse, "AbnormalCondition", "Other")
            return
        every_s = self._variables.number("SampledDataCtrlr", "TxUpdatedInterval")
        if every_s and now.mono_s >= transaction.sample_due_s:
            while transaction.sample_due_s <= now.mono_s:
                transaction.sample_due_s += every_s
            measurands = self._variables.names("SampledDataCtrlr", "TxUpdatedMeasurands")
            self.report_values(evse, "MeterValuePeriodic", "Sample.Periodic", measurands)

    def _significant(self, offered_a: float, told_a: float) -> bool:
        percent = float(self._variables.text("SmartChargingCtrlr", "LimitChangeSignificance"))
        return abs(offered_a - told_a) > max(told_a, 1.0) * percent / 100.0

    def _event(
        self,
        evse: Evse,
        transaction: Transaction,
        kind: str,
        trigger: str,
        values: list[Json],
        more: Json | None = None,
        info: Json | None = None,
    ) -> None:
        """The next event of this transaction goes into the memory; what the other side knows is noted."""
        at, state = stamp(self._station.utc()), evse.charging_state()
        told: Json = {"transactionId": transaction.id, "chargingState": state, **(info or {})}
        payload: Json = {
            "eventType": kind,
            "timestamp": at,
            "triggerReason": trigger,
            "seqNo": transaction.seq,
            "transactionInfo": told,
            **(more or {}),
        }
        faults = self._station.quirks.event_faults
        if kind == "Started" or "every_evse" in faults:
            connector = {} if "no_connector" in faults else {"connectorId": CONNECTOR}
            payload["evse"] = {"id": evse.number, **connector}
        if not self._station.voice.online:
            payload["offline"] = True
        permit = evse.permit
        if permit is not None and permit is not transaction.told_permit:
            payload["idToken"] = transaction.token = permit.token
            transaction.told_permit, transaction.group = permit, permit.group
            transaction.remote_id = permit.remote_id
        if transaction.remote_id is not None:
            told["remoteStartId"] = transaction.remote_id
        if values:
            payload["meterValue"] = [{"timestamp": at, "sampledValue": values}]
        transaction.seq += 2 if trigger == "MeterValuePeriodic" and "seq_gaps" in faults else 1
        transaction.told_state, transaction.told_plugged = state, evse.plugged
        transaction.told_offer_a = evse.evse.offered_a
        self._station.keep(EventRecord(payload, transaction), "shuffled" in faults)


def read_card(info: object) -> Card:
    """An IdTokenInfoType. Raises KeyError when it has no status."""
    if not isinstance(info, dict):
        return Card("Invalid")
    group = info.get("groupIdToken") or {}
    return Card(str(info["status"]), group.get("idToken"), read_time(info.get("cacheExpiryDateTime")))


def _why(permit: Permit) -> str:
    return "Authorized" if permit.remote_id is None else "RemoteStart"
