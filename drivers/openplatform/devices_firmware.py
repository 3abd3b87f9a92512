"""The firmware of one charger on the on-site host: what it may be told to install, and what it says of that.

Owns the reasons against an upgrade that only this channel knows, and the charger's identity once another build runs in
it. Only a build proven to hold a second backend is installed: a charger that comes back with another one is turned away
at the gate, and nobody could mend that from here. The progress report names no command and a late `failed` no version,
so the last order is kept to tell what the charger speaks of.
Must not decide when or in what order: that is a campaign's (`controller.core.campaign`).
Source: REFERENCE sections 13 and 14, openapi.yaml reportFirmwareStatus, CommandFirmwareUpgradeParams; GAPS G-23.
"""

from __future__ import annotations

from controller.core.commands import UpgradeFirmware
from controller.core.events import Event, FirmwareReported
from controller.core.readings import Readings
from drivers.openplatform.devices_faults import CHANNEL
from drivers.openplatform.devices_link import DeviceLink
from drivers.openplatform.devices_words import CommandWord, UpgradeWord
from drivers.openplatform.vault import Vault
from drivers.openplatform.words import firmware_passes


class DeviceFirmware:
    """`vault` is open."""

    def __init__(self, serial: str, link: DeviceLink, vault: Vault, readings: Readings) -> None:
        self._serial = serial
        self._link = link
        self._vault = vault
        self._readings = readings
        self._order: UpgradeFirmware | None = None

    def order(self, command: UpgradeFirmware) -> str:
        """Keeps the order in mind; returns why it cannot be given, empty when it can."""
        gate = self._readings.firmware_gate
        if not firmware_passes(command.version, gate):
            return f"{command.version} is not proven to be {gate} or newer: it could not come back"
        if command.url is not None and not command.url.startswith("https://"):
            return "the address of the image must begin with https://"
        self._order = command
        return ""

    def reported(self, word: UpgradeWord, peer: str) -> list[Event]:
        """The charger's progress report."""
        if word.status in ("success", "failed"):
            self._order = None
        told = FirmwareReported(
            self._link.station, CHANNEL, word.version, word.status, word.progress_pct, word.text
        )
        known = self._vault.identity(self._serial)
        if word.status != "success" or known is None or known.firmware == word.version:
            return [told]
        self._vault.runs(self._serial, word.version)
        return [told, *self._link.introduced(known.vendor, known.model, word.version, peer)]

    def said(self, word: CommandWord) -> list[Event]:
        """The charger's word on a command that was answered before: an upgrade it began may fail without a report."""
        order = self._order
        if order is None or word.status != "failed" or not word.command.startswith(f"{order.id}."):
            return []
        self._order = None
        return [FirmwareReported(self._link.station, CHANNEL, order.version, "failed", None, word.message)]
