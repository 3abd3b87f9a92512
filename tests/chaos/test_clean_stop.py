"""SIGTERM with real processes: within ten seconds every station draws its fallback, with no lease left to wait for."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from night_site import Night, Process, charges, config, evse, night

FALLBACK_A = 6.0
STATIONS = {"CP001": "1.6", "CP002": "2.0.1"}


def drawn_a(made: Night, station: str) -> float:
    """What its own file says flows, on the worst phase."""
    text = (made.folder / f"{station}.amps").read_text()
    return max(float(part.strip().removesuffix(" A")) for part in text.split(","))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def charging(tmp_path: Path) -> AsyncIterator[tuple[Night, dict[str, Process]]]:
    """Two stations, each charging above its fallback."""
    sims: dict[str, Process] = {}
    async with night(tmp_path) as made:
        meter, port = await made.meter(*STATIONS), free_port()
        lines = ["[ocpp]", f'listen = "127.0.0.1:{port}"', 'unqualified = "fallback"']
        lines += ["[vehicle.VAN]", 'battery = "60 kWh"', f"tokens = {json.dumps(list(STATIONS))}"]
        for name in STATIONS:
            lines += [
                f"[station.{name}]", 'circuit = "site"', f'fallback = "{FALLBACK_A:g} A"',
                "ocpp = { allow_insecure = true }",
                'evse.1 = { max = "16 A", min = "6 A", phases = "L1 L2 L3" }',
            ]  # fmt: skip
        (tmp_path / "depot.toml").write_text(config(meter, *lines, limit_a=60))
        await made.run()
        for name, version in STATIONS.items():
            sims[name] = await made.sim(
                "charger", name, "--url", f"ws://127.0.0.1:{port}/ocpp", "--id", name, "--ocpp", version,
                "--vehicle-after", "0s", "--token", name,
            )  # fmt: skip
        await made.until(
            lambda seen: all(charges(evse(seen, f"{name}/1"), FALLBACK_A + 5) for name in STATIONS),
            "both charge above their fallback",
        )
        yield made, sims


async def test_a_stop_leaves_every_station_on_its_fallback_within_ten_seconds(
    charging: tuple[Night, dict[str, Process]],
) -> None:
    made, _ = charging
    assert made.controller is not None
    began_s = time.monotonic()
    assert await made.controller.end() == 0
    assert time.monotonic() - began_s < 10
    while any(drawn_a(made, name) > FALLBACK_A for name in STATIONS):
        assert time.monotonic() - began_s < 10, "they wait for their leases"
        await asyncio.sleep(0.05)
    assert all(drawn_a(made, name) > 0 for name in STATIONS), "they go on charging, at what they do alone"


async def test_a_station_that_does_not_answer_does_not_hold_up_the_stop(
    charging: tuple[Night, dict[str, Process]],
) -> None:
    """It keeps its lease: that is what the lease is for."""
    made, sims = charging
    assert made.controller is not None
    sims["CP001"].signal(signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        assert await made.controller.end() == 0
        assert time.monotonic() - began_s < 10
    finally:
        sims["CP001"].signal(signal.SIGCONT)
    assert drawn_a(made, "CP002") <= FALLBACK_A
