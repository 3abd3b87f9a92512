"""[open_platform]: the second way to stations, and the customer's consent to it.

Owns what a channel needs as a whole; what one station says about its channel is in `stations`. Source:
INTERFACE section 3, DESIGN section 6; consent and region: GAPS G-24, G-25; plain HTTP: REFERENCE section 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from controller.config.files import certificate_file, key_file, secret
from controller.config.readings import read_readings
from controller.config.stations import Stations
from controller.config.table import Table
from controller.config.types import (
    CloudConfig,
    CloudStation,
    OnsiteClient,
    OnsiteConfig,
    OnsiteStation,
    OpenPlatformConfig,
)
from controller.config.values import (
    base_url,
    flag,
    identifier,
    is_loopback,
    listen,
    one_of,
    one_or_more_of,
    quoted,
    text,
    texts,
)
from controller.core.model import StationId

OPEN_PLATFORM_KEYS = "mode enabled_by purposes cloud onsite readings"
CLOUD_KEYS = "base_url region client_id client_secret_file site_ids sign_requests"
ONSITE_KEYS = "listen tls_cert tls_key clients"
CLIENT_KEYS = "id secret_file scopes"
PURPOSES = ("monitor", "control", "flexibility", "v2g", "diagnostics", "firmware")
SCOPES = ("read", "write")
_LINKS = {  # what its table needs, and what a station on it says
    "cloud": ("base_url, region and client_id", '{ device_id = "...", link = "cloud" }'),
    "onsite": ("listen", '{ serial = "...", model = "...", link = "onsite" }'),
}


def read_open_platform(table: Table, stations: Stations, base: Path) -> OpenPlatformConfig | None:
    """The second channel; None when consent is missing or incomplete."""
    mode = table.required("mode", one_of("sole", "companion"), '"sole"')
    enabled_by = table.required("enabled_by", text, '"NAME, DATE" of the customer\'s consent')
    purposes = table.required(
        "purposes", one_or_more_of(PURPOSES, "purpose", '["monitor", "control"]'), '["monitor", "control"]'
    )
    _note_links(table, stations.links)
    if mode == "sole":
        for below in stations.led.values():
            below.findings.note(
                below.path,
                'has ocpp beside it, and mode = "sole" knows one channel per station',
                'keep one, or write mode = "companion" under [open_platform]: then OCPP leads',
            )
    part = table.table("cloud", CLOUD_KEYS)
    cloud = None if part is None else _cloud(part, base, stations.cloud)
    part = table.table("onsite", ONSITE_KEYS)
    onsite = None if part is None else _onsite(part, base, stations.onsite)
    readings = read_readings(table)
    if mode is None or enabled_by is None or purposes is None:
        return None
    return OpenPlatformConfig(mode, enabled_by, purposes, cloud, onsite, readings)


def _note_links(table: Table, links: Collection[str | None]) -> None:
    """Every link a station names has its table, and every table a station."""
    if not links:
        example = f"add open_platform = {_LINKS['cloud'][1]} to a station, or remove this table"
        table.findings.note(table.path, "no station is linked to the Open Platform", example)
    present = [link for link in _LINKS if link in table]
    wanted = set(links) - {None}
    if not wanted and not present:
        wanted = {"cloud"}
    for link, (needs, example) in _LINKS.items():
        if link in wanted and link not in present:
            table.note(link, "is missing", f"add [open_platform.{link}] with {needs}")
        elif link in present and links and link not in wanted and None not in links:
            advice = f"add open_platform = {example} to a station, or remove this table"
            table.note(link, "no station is linked to it", advice)


def _cloud(table: Table, base: Path, stations: Mapping[StationId, CloudStation]) -> CloudConfig | None:
    url = table.required("base_url", base_url, '"https://platform.example/v1"')
    region = table.required("region", one_of("eu", "us", "site"), '"eu"')
    client_id = table.required("client_id", text, '"depot-noord"')
    client_secret = table.required("client_secret_file", secret(base), '"platform.secret"')
    site_ids = table.optional("site_ids", texts, ())
    sign_requests = table.optional("sign_requests", flag, False)
    if url is None or region is None or client_id is None or client_secret is None:
        return None
    return CloudConfig(url, region, client_id, client_secret, site_ids, sign_requests, stations)


def _onsite(table: Table, base: Path, stations: Mapping[StationId, OnsiteStation]) -> OnsiteConfig | None:
    address = table.required("listen", listen, '"0.0.0.0:8444"')
    cert = table.optional("tls_cert", certificate_file(base), None)
    key = table.optional("tls_key", key_file(base), None)
    with_tls = "tls_cert" in table or "tls_key" in table
    for name, example in (("tls_cert", "server.pem"), ("tls_key", "server.key")):
        if with_tls and name not in table:
            table.note(name, "is missing", f'write {name} = "{example}" too')
    if address is not None and not with_tls and not is_loopback(address[0]):
        table.note(
            "tls_cert",
            f"is missing: plain HTTP on {address[0]} would show every secret to the network",
            'write tls_cert = "server.pem" and tls_key = "server.key", or listen on "127.0.0.1:8444"',
        )
    clients = [_client(row, base) for row in table.rows("clients", CLIENT_KEYS)]
    known = tuple(client for client in clients if client is not None)
    names = [client.id for client in known]
    for name in sorted({name for name in names if names.count(name) > 1}):
        table.note("clients", f"{quoted(name)} stands here twice", "give each client its own id and secret")
    if address is None:
        return None
    return OnsiteConfig(*address, cert, key, known, stations)


def _client(table: Table, base: Path) -> OnsiteClient | None:
    name = table.required("id", identifier, '"ems"')
    word = table.required("secret_file", secret(base), '"ems.secret"')
    scopes = table.required(
        "scopes", one_or_more_of(SCOPES, "scope", '["read", "write"]'), '["read", "write"]'
    )
    return None if name is None or word is None or scopes is None else OnsiteClient(name, word, scopes)
