"""Simulated stations of every version with every security profile, and their way from a password to a certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ocpp_peer import PASSWORD, WITHIN_S, a_station, running
from ocpp_tls_bench import NOW
from ocpp_tls_bench import Depot as Files

from controller.clock import SystemClock
from controller.core.events import LinkUp, SecurityEvent, StationBooted
from controller.core.model import StationId
from drivers.ocpp.server import OcppServer
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation
from drivers.sim.evse import SimEvse

CP1 = StationId("CP1")
VERSIONS = ("1.6", "2.0.1", "2.1")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@asynccontextmanager
async def simulated(server: OcppServer, version: str, secure: bool, **more: Any) -> AsyncIterator[None]:
    """Runs a station of this version until the block ends."""
    place = f"wss://127.0.0.1:{server.tls_port}" if secure else f"ws://127.0.0.1:{server.port}"
    clock, evses = SystemClock(), [SimEvse("CP1/1", 32)]
    station: SimCharger | SimStation
    if version == "1.6":
        station = SimCharger("CP1", f"{place}/ocpp", evses, clock=clock, **more)
    else:
        station = SimStation("CP1", f"{place}/ocpp", evses, clock=clock, versions=[f"ocpp{version}"], **more)
    task = asyncio.create_task(station.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=WITHIN_S)


@pytest.mark.parametrize("profile", [0, 1, 2, 3])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_of_every_version_comes_with_every_profile(
    files: Files, version: str, profile: int
) -> None:
    settings: dict[str, Any] = {"security_profile": profile}
    more: dict[str, Any] = {"password": PASSWORD}
    if profile == 0:
        settings |= {"allow_insecure": True, "password": None}
        more = {}
    elif profile == 2:
        more |= {"tls": files.trusting()}
    elif profile == 3:
        settings |= {"password": None}
        more = {"tls": files.station("CP1")}
    async with (
        running(files.settings(CP1=a_station("CP1", **settings))) as (server, depot),
        simulated(server, version, secure=profile >= 2, **more),
    ):
        up = await depot.until_a(LinkUp)
        assert up.channel == f"ocpp{version}"
        assert (await depot.until_a(StationBooted)).station == "CP1"


@pytest.mark.parametrize("version", VERSIONS)
async def test_from_the_first_password_to_the_next_to_a_certificate(files: Files, version: str) -> None:
    """TC_073, TC_074, TC_A_09, TC_A_11: nobody touches the station."""
    strict = a_station("CP1", security_profile=2)
    async with (
        running(files.settings(CP1=strict)) as (server, depot),
        simulated(server, version, secure=True, password=PASSWORD, tls=files.trusting()),
    ):
        await depot.until_a(StationBooted)
        await server.security.change_password(CP1, "anna")
        await server.security.renew_certificate(CP1, "anna")
        event = await depot.until(
            lambda event: isinstance(event, SecurityEvent) and event.kind == "CertificateSigned"
        )
        assert 'the station said "Accepted"' in event.text
        assert [each.name for each in files.authority.issued()] == ["localhost", "CP1"]
        # whether it reconnects by itself is its own business: a cut makes it
        for connection in list(server._links.values()):
            await connection.dialogue.session.close(1001, "test")
        await depot.until(lambda _: len(depot.all(LinkUp)) >= 2)
        await depot.until(lambda _: CP1 in server.security.shown)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_certificate_that_ends_soon_is_renewed(
    files: Files, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.ocpp.security.LOOK_EVERY_S", 0.05)
    old = files.station("CP1", NOW - timedelta(days=800))
    config = files.settings(CP1=a_station("CP1", password=None, security_profile=3))
    async with running(config) as (server, depot), simulated(server, version, secure=True, tls=old):
        event = await depot.until(
            lambda event: isinstance(event, SecurityEvent) and event.kind == "CertificateSigned"
        )
        assert 'the station said "Accepted"' in event.text
        asked = [event for event in depot.all(SecurityEvent) if event.kind == "CertificateRenewalAsked"]
        assert len(asked) == 1
