"""What an OCPP 1.6 station is asked and told during setup: its configuration keys.

Owns the keys and their values; the order of setup is in `setup`. Every refusal is a fact about the station, never an
error. Source: OCPP 1.6 sections 5.3, 5.8 and 9.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from drivers.ocpp import profiles
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.words import Ask, Capabilities, status_of

log = logging.getLogger(__name__)

# most wanted first; stations that refuse the long list take the short one
MEASURANDS = (
    "Current.Import,Power.Active.Import,Energy.Active.Import.Register,Current.Offered,SoC",
    "Current.Import,Power.Active.Import,Energy.Active.Import.Register",
    "Current.Import,Energy.Active.Import.Register",
)


async def read_configuration(ask: Ask) -> Mapping[str, str]:
    answer = await ask("GetConfiguration", {"key": list(profiles.KEYS)})
    return profiles.read_configuration(answer or {})


async def configure(
    ask: Ask,
    configuration: Mapping[str, str],
    able: Capabilities,
    settings: OcppSettings,
    measurands_written: bool,
) -> bool:
    """Writes only what differs: some stations keep their configuration in memory that wears out."""
    wanted = {
        "MeterValueSampleInterval": str(settings.sample_interval_s),
        "HeartbeatInterval": str(settings.heartbeat_s),
    }
    alone = {
        "LocalPreAuthorize": False,  # while we are there, we are asked
        "LocalAuthorizeOffline": settings.offline_tokens != "nobody",
        "AllowOfflineTxForUnknownId": settings.offline_tokens == "anyone",
    }
    # not every station has all of these, and what it does not have it does not do
    wanted |= {key: str(value).lower() for key, value in alone.items() if key.casefold() in configuration}
    if able.asks_for_remote_tokens:
        wanted["AuthorizeRemoteTxRequests"] = "false"  # we have authorized what we start ourselves
    for key, value in wanted.items():
        if configuration.get(key.casefold(), "").casefold() != value:
            await _change(ask, key, value)
    if measurands_written:
        return True
    for measurands in MEASURANDS:
        if await _change(ask, "MeterValuesSampledData", measurands):
            return True
    return False


async def _change(ask: Ask, key: str, value: str) -> bool:
    answer = await ask("ChangeConfiguration", {"key": key, "value": value})
    status = status_of(answer or {}).casefold()
    if answer is not None and status not in ("accepted", "rebootrequired"):
        log.info("%s stays as it is: %s", key, status or "no status")
    return status in ("accepted", "rebootrequired")
