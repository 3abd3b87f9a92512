"""The order to install firmware, as OCPP 1.6 and 2.x say it.

Owns the payloads. The image is named by its address alone: a station that wants firmware to be signed refuses it, or
finds the signature inside the image. Source: OCPP 1.6 section 5.19, 2.0.1 part 2 section L02.
"""

from __future__ import annotations

import zlib
from datetime import datetime

from controller.core.commands import UpgradeFirmware
from drivers.errors import Refused
from drivers.ocpp.frames import Payload
from drivers.ocpp.words import Order, utc_text

RETRIES, RETRY_S = 3, 60  # of the download, by the station itself: cellular links break off


def upgrade_16(command: UpgradeFirmware, now: datetime) -> Order:
    return Order(
        "UpdateFirmware", {"location": _address(command), "retrieveDate": utc_text(now), **_retries()}
    )


def upgrade_2(command: UpgradeFirmware, now: datetime) -> Order:
    image = {"location": _address(command), "retrieveDateTime": utc_text(now)}
    number = zlib.crc32(command.id.encode()) & 0x7FFFFFFF
    return Order("UpdateFirmware", {"requestId": number, "firmware": image, **_retries()})


def _address(command: UpgradeFirmware) -> str:
    if command.url is None:
        raise Refused("over OCPP a station must be told where the image is: depot firmware upgrade --url")
    return command.url


def _retries() -> Payload:
    return {"retries": RETRIES, "retryInterval": RETRY_S}
