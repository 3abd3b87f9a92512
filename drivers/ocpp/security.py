"""The security side of the central system beyond the door: new passwords and certificates for stations, what stations
report about themselves, and what is about to run out.

Owns who may have which certificate signed (the authenticated station its own, now and then), the change of a password on
the wire, and the channel "ocpp/security" on which people see what needs their hand. Must not open a socket or let anybody
in. Source: OCPP 1.6 security whitepaper sections 4 and 5, OCPP 2.0.1 part 2 A01, A02, A04; 2.1 A02 (requestId).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from controller.core.events import ChannelChanged, Event, SecurityEvent
from controller.core.model import StationId
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured, Refused
from drivers.ocpp.ca import FOLDER, Authority, Issued, valid_until
from drivers.ocpp.door import Certificate, Guesses, passwords_of
from drivers.ocpp.frames import Payload, clean
from drivers.ocpp.keys import FILE, Keys
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.tls import Certificates
from drivers.ocpp.words import integer, status_of, text_of

log = logging.getLogger(__name__)

CHANNEL: Final = "ocpp/security"
LOOK_EVERY_S = 600.0  # at what runs out
EXPIRES_SOON = timedelta(days=30)  # stations are visited monthly
CA_EXPIRES_SOON = timedelta(days=180)  # every station needs the next one before this one ends
RENEW_EVERY = timedelta(days=1)
SIGNINGS, SIGNING_EVERY_S = 3, 600.0  # per station: one that asks more often is broken, or is not the station
EVENTS, EVENT_EVERY_S = 30, 10.0  # security events of one station; a flood of them is itself the event

_OURS = ("", "ChargingStationCertificate")  # certificateType; left out means ours
_LONGEST = 255

Request = Callable[[StationId, str, Payload], Awaitable[Payload]]


class Security:
    """`tell` takes facts for the depot and never blocks; `request` sends a call to a station; `version`: what a connected
    one speaks. Raises Misconfigured for certificates that cannot be used."""

    def __init__(
        self,
        settings: OcppSettings,
        clock: Clock,
        tell: Callable[[Event], None],
        request: Request,
        version: Callable[[StationId], str | None],
    ) -> None:
        folder = settings.folder
        self.keys = Keys(passwords_of(settings.stations), folder / FILE if folder else None)
        self.authority = Authority(folder / FOLDER) if folder else None
        self.certificates = None if settings.tls is None else Certificates(settings.tls)
        self.shown: Mapping[StationId, Certificate] = {}  # by stations at the door
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._request = request
        self._version = version
        self._signings = Guesses(monotonic, SIGNINGS, SIGNING_EVERY_S)
        self._events = Guesses(monotonic, EVENTS, EVENT_EVERY_S)
        self._renewed_at: dict[StationId, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Raises Misconfigured when the passwords of earlier runs cannot be read."""
        self.keys.open()

    def is_revoked(self, serial: str) -> bool:
        return self.authority is not None and self.authority.is_revoked(serial)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keys.settle()

    # --- passwords ------------------------------------------------------------------------------------------------

    async def change_password(self, station: StationId, by: str) -> str:
        """Gives a connected station a new password; it counts once the station came with it. Returns what the station
        said. Raises DriverError; after Unreachable both passwords open."""
        said = ""

        async def write(password: str) -> None:
            nonlocal said
            said = await self._write_password(station, password)

        if self._version(station) is None:
            raise Refused(f"{station} is not connected: it can only be told a new password while it is")
        await self.keys.change(station, write)
        self._note(station, self._channel(station), "PasswordChanged", f'by {by}; the station said "{said}"')
        return said

    async def forget_password(self, station: StationId, by: str) -> None:
        """The password of the config opens again: for a station that was set back by hand. Raises DriverError."""
        await self.keys.forget(station)
        self._note(
            station, self._channel(station), "PasswordForgotten", f"by {by}; the one in the config counts"
        )

    async def _write_password(self, station: StationId, password: str) -> str:
        if self._version(station) == "1.6":
            request: Payload = {"key": "AuthorizationKey", "value": password.encode().hex()}
            said = status_of(await self._request(station, "ChangeConfiguration", request))
        else:
            variable = {
                "attributeValue": password,
                "component": {"name": "SecurityCtrlr"},
                "variable": {"name": "BasicAuthPassword"},
            }
            answer = await self._request(station, "SetVariables", {"setVariableData": [variable]})
            results = answer.get("setVariableResult")
            first = results[0] if isinstance(results, list) and results else None
            said = text_of(first, "attributeStatus") if isinstance(first, dict) else ""
        if said not in ("Accepted", "RebootRequired"):
            raise Refused(f'{station} keeps its password: it said "{said or "nothing"}"')
        return said

    async def renew_certificate(self, station: StationId, by: str) -> str:
        """Asks a connected station to ask us for a certificate. Returns what it said. Raises DriverError."""
        if self.authority is None or not self.authority.can_sign:
            raise Refused("there is no authority on this box that could sign: `depot ca init` makes one")
        if self._version(station) == "1.6":
            action, wanted = "ExtendedTriggerMessage", "SignChargePointCertificate"
        else:
            action, wanted = "TriggerMessage", "SignChargingStationCertificate"
        said = status_of(await self._request(station, action, {"requestedMessage": wanted}))
        if said != "Accepted":
            raise Refused(f'{station} does not ask for a certificate: it said "{said or "nothing"}"')
        self._note(station, self._channel(station), "CertificateRenewalAsked", f"by {by}")
        return said

    # --- what stations say ----------------------------------------------------------------------------------------

    def hear(self, station: StationId, channel: str, action: str, payload: Payload) -> Payload | None:
        """The answer to a request of the security blocks; None for any other."""
        match action:
            case "SignCertificate":
                return self._asked_to_sign(station, channel, payload)
            case "SecurityEventNotification":
                text = f"{text_of(payload, 'techInfo', _LONGEST)} at {text_of(payload, 'timestamp') or 'unknown time'}"
                self._note(station, channel, text_of(payload, "type") or "unknown", text.strip())
                return {}
            case _:
                return None

    def _note(self, station: StationId, channel: str, kind: str, text: str) -> None:
        """Logged and audited, as far as one station may fill log and audit."""
        if self._events.used_up(station):
            log.debug("%s: security event %s: %s", station, kind, text)
            return
        self._events.note_failure(station)
        if self._events.used_up(station):
            text = f"{text} (more will only be kept one in {EVENT_EVERY_S:g} s)"
        log.warning("%s: security event %s: %s", station, kind, text)
        self._tell(SecurityEvent(station, channel, kind, text))

    def _asked_to_sign(self, station: StationId, channel: str, payload: Payload) -> Payload:
        kind = text_of(payload, "certificateType")
        request = payload.get("csr")
        reason = None
        if kind not in _OURS:
            reason = f"{kind} is not ours to give"
        elif not isinstance(request, str):
            reason = "there is no request in it"
        elif self.authority is None or not self.authority.can_sign:
            reason = "there is no authority on this box: `depot ca init` makes one"
        elif self._signings.used_up(station):
            reason = "it asks too often"
        if reason is not None or not isinstance(request, str):
            self._note(station, channel, "SignCertificateRefused", reason or "")
            return {"status": "Rejected"}
        self._signings.note_failure(station)
        # begins when the station has its answer: nothing in between gives way to another task
        task = asyncio.get_running_loop().create_task(self._sign(station, channel, request, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"status": "Accepted"}

    async def _sign(self, station: StationId, channel: str, request: str, asked: Payload) -> None:
        assert self.authority is not None
        try:
            now = self._now()
            chain = await asyncio.to_thread(self.authority.sign, request, station, now)
            signed: Payload = {"certificateChain": chain.decode()}
            if self._version(station) != "1.6":
                signed["certificateType"] = "ChargingStationCertificate"
                number = integer(asked.get("requestId"))
                if number is not None:
                    signed["requestId"] = number
            said = status_of(await self._request(station, "CertificateSigned", signed))
        except DriverError as error:
            self._note(station, channel, "SignCertificateRefused", clean(str(error), _LONGEST))
            return
        until = next((each.until for each in reversed(self.authority.issued()) if each.name == station), now)
        self._note(
            station, channel, "CertificateSigned", f'valid until {until:%Y-%m-%d}; the station said "{said}"'
        )

    def _channel(self, station: StationId) -> str:
        version = self._version(station)
        return f"ocpp{version}" if version else "ocpp"

    def _now(self) -> datetime:
        now = self._clock.now()
        if not now.utc_trusted:
            raise Misconfigured(
                "the clock is not trusted: a certificate would begin and end at the wrong time"
            )
        return now.utc

    # --- what needs a hand ----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Renews what can be renewed and reports on change what people must see to, until cancelled."""
        before: tuple[str, str] | None = None
        while True:
            now = self._clock.now()
            concerns = self.concerns(now.utc if now.utc_trusted else None)
            state = ("degraded" if concerns else "ok", "; ".join(concerns))
            if state != before and (concerns or before is not None):
                self._tell(ChannelChanged(CHANNEL, *state))
            before = state
            if now.utc_trusted:
                await self._renew_ending(now.utc)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _renew_ending(self, now: datetime) -> None:
        """Connected stations whose certificate ends soon are asked once a day to fetch the next one."""
        if self.authority is None or not self.authority.can_sign:
            return
        for station, shown in list(self.shown.items()):
            tried_at = self._renewed_at.get(station)
            is_time = tried_at is None or now - tried_at >= RENEW_EVERY
            if shown.until - now > EXPIRES_SOON or not is_time or self._version(station) is None:
                continue
            try:
                await self.renew_certificate(station, "the controller")
            except DriverError as error:
                # perhaps it has only just connected: asked again at the next look; `concerns` tells people meanwhile
                log.info("%s does not renew its certificate: %s", station, error)
            else:
                self._renewed_at[station] = now

    def concerns(self, now: datetime | None) -> tuple[str, ...]:
        """One line each; without a trusted `now` nothing is said about ends."""
        stations = self._settings.stations
        insecure = sorted(name for name, each in stations.items() if each.allow_insecure)
        found = [f"anybody may connect as {', '.join(insecure)}: allow_insecure"] if insecure else []
        if self.certificates is not None and self.certificates.trouble:
            found.append(self.certificates.trouble)
        if now is not None:
            found += self._ending(now)
        return tuple(found)

    def _ending(self, now: datetime) -> list[str]:
        tls = self._settings.tls
        files: list[tuple[str, Path, timedelta]] = []
        if tls is not None:
            files.append(("the certificate of this box", tls.cert, EXPIRES_SOON))
            if tls.client_ca is not None:
                files.append(("the authority of the stations", tls.client_ca, CA_EXPIRES_SOON))
        found = []
        for what, path, soon in files:
            try:
                found += _ends(what, valid_until(path), now, soon)
            except Misconfigured as error:
                found.append(str(error))
        for name, until in sorted(self._station_certificates().items()):
            if name in self._settings.stations:
                found += _ends(f"the certificate of {name}", until, now, EXPIRES_SOON)
        return found

    def _station_certificates(self) -> dict[str, datetime]:
        """When the certificate each station uses ends: the newest given out here, unless it has shown another."""
        try:
            issued = self.authority.issued() if self.authority is not None else ()
        except Misconfigured as error:
            log.error("%s", error)
            issued = ()
        newest: dict[str, Issued] = {}
        for each in issued:
            if each.kind == "station" and each.revoked is None:
                newest[each.name] = each
        return {name: each.until for name, each in newest.items()} | {
            name: each.until for name, each in self.shown.items()
        }


def _ends(what: str, until: datetime, now: datetime, soon: timedelta) -> list[str]:
    if until <= now:
        return [f"{what} expired on {until:%Y-%m-%d}"]
    if until - now <= soon:
        return [f"{what} expires on {until:%Y-%m-%d}"]
    return []
