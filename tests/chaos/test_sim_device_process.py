"""`python -m drivers.sim device` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from device_host import Host

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ended with SIGTERM, as systemd would; its exit code is then `returncode`."""
    one = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drivers.sim", "device", "--serial", "SN1", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield one
    finally:
        if one.returncode is None:
            one.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(one.communicate(), 10)
        assert b"Traceback" not in said, said.decode()


async def test_it_keeps_its_identity_in_its_file(tmp_path: Path) -> None:
    host, memory = Host(), tmp_path / "SN1.json"
    await host.start()
    try:
        for times in (1, 2):
            async with process("--url", host.base_url, "--memory", str(memory)) as one:
                await host.until(lambda: len(host.all("heartbeat")) == times)  # noqa: B023
            assert one.returncode == 0
        assert len(host.all("register")) == 1
    finally:
        await host.stop()
    assert json.loads(memory.read_text())["identity"]["device_id"] == "dvc_1"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600


async def test_what_a_person_must_mend_is_one_line(tmp_path: Path) -> None:
    memory = tmp_path / "SN1.json"
    memory.write_text("[]")
    for arguments, code in (
        (("--url", "http://127.0.0.1:1/v1", "--memory", str(memory)), 1),
        (("--url", "127.0.0.1:8088"), 2),
        (("--url", "https://127.0.0.1:1/v1", "--ca-file", str(memory)), 1),
    ):
        async with process(*arguments) as one:
            _, said = await asyncio.wait_for(one.communicate(), 10)
        assert one.returncode == code
        assert (
            said.decode()
            .strip()
            .splitlines()[-1]
            .startswith(("sim: ", "python -m drivers.sim device: error"))
        )
