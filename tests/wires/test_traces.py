"""What each family keeps of its wires for people: what was said, of whom, in order, and never what opens a door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from onsite_place import OPERATIONS, place
from openplatform_bench import SECRET, TOKEN, Platform, limit, says, site
from test_contacts import Reports, contact, listening, said

from controller.clock import SystemClock
from controller.core import events as ev
from controller.core.frames import KEPT_TEXT, MOST_FRAMES, Trace
from controller.ports import Traced
from drivers.modbus.bus import KEPT_FRAMES, ModbusMeters
from drivers.ocpp.frames import redacted as ocpp_redacted
from drivers.openplatform.traces import Traces, redacted
from drivers.sim.relay import SimRelay


def texts(traces: Iterable[Trace], about: str | None = None) -> list[str]:
    return [frame.text for trace in traces if about in (None, trace.about) for frame in trace.frames]


# --- the hosted platform -------------------------------------------------------------------------------------------


async def test_requests_answers_and_the_stream_of_the_platform_by_station() -> None:
    async with site("CP1 CP2") as s:
        s.operator.send(limit("c1", cp="CP2"))
        await s.heard.ended("c1")
        await s.platform.push("dvc_CP1", power=7.0)
        await s.heard.until(lambda: any("7.0" in text for text in texts(s.operator.traces(), "CP1")))
        assert isinstance(s.operator, Traced)
        traces = s.operator.traces()
        assert {trace.channel for trace in traces} == {"open-platform/cloud"}
        assert [trace.about for trace in traces] == ["", "CP1", "CP2"]
        ours = [frame.text for frame in traces[2].frames if frame.sent]
        assert ours[0].startswith("GET /operator/devices/dvc_CP2")
        assert any(text.startswith("POST /operator/devices/dvc_CP2/connectors/1/") for text in ours)
        heard = [frame.text for frame in traces[2].frames if not frame.sent]
        assert heard[0].startswith('200 {"code": 0')
        assert texts(traces, "")[0].startswith("POST /operator/oauth/token {")
        assert [frame.at for frame in traces[2].frames] == sorted(frame.at for frame in traces[2].frames)


async def test_a_platform_that_echoes_our_secrets_shows_none_of_them() -> None:
    def echoing(platform: Platform) -> None:
        platform.script["device"].extend([says(500, 9001)] * 2)  # with the secret and a token in its message

    async with site(prepare=echoing, wait="") as s:
        await s.heard.until(lambda: s.heard.of(ev.LinkUp))
        everything = "\n".join(texts(s.operator.traces()))
        assert "for you: *** ***" in everything
        assert SECRET not in everything and f"{TOKEN}1" not in everything


# --- the host on site ------------------------------------------------------------------------------------------------


async def test_no_operation_of_the_host_leaves_a_secret_behind(tmp_path: Path) -> None:
    async with place(tmp_path) as p:
        for name in OPERATIONS:
            await p.ask(name, p.good(name))
        traces = p.bench.host.traces()
        everything = "\n".join(texts(traces))
        secrets = [p.peer.secret, *p.tokens.values(), "ems-secret", "viewer-secret", "hand-secret"]
        assert all(len(secret) > 5 for secret in secrets)
        assert [secret for secret in secrets if secret in everything] == []
        by = {trace.about: texts([trace]) for trace in traces}
        assert any("/v1/device/telemetry" in text for text in by["CP1"])
        assert any("/start" in text for text in by["ems"])
        assert any(text.startswith("POST /v1/device/register {") for text in by[""])


async def test_strangers_push_out_nobody_elses_frames(tmp_path: Path) -> None:
    async with place(tmp_path) as p:
        before = len(texts(p.bench.host.traces(), "CP1"))
        for _ in range(MOST_FRAMES // 2 + 5):
            await p.bench.request("GET", "/v1/device/commands", None, "guess")
        traces = p.bench.host.traces()
        assert len(texts(traces, "CP1")) == before > 0
        assert len(texts(traces, "")) == MOST_FRAMES


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"device_secret": "abc\\"d", "x": 1}', '{"device_secret": "***", "x": 1}'),
        ('{"access_token":"abc","token_type":"Bearer"}', '{"access_token":"***","token_type":"***"}'),
        ('{"vehicle_info":{"vin":"WDB123","soc":1}}', '{"vehicle_info":{"vin":"***","soc":1}}'),
        ('{"driver_name":"A. Bos"}', '{"driver_name":"***"}'),
        ('{"id_tag":"04A2"}{"rfid_card":"77', '{"id_tag":"***"}{"rfid_card":"***'),
        ("GET /v1/operator/stream?token=abc&devices=d", "GET /v1/operator/stream?token=***&devices=d"),
        ('{"saving":"3","power":7.0}', '{"saving":"3","power":7.0}'),
    ],
)
def test_what_names_people_or_opens_doors_is_masked(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_masking_is_linear_and_cut() -> None:
    text = '{"token":"' + "x" * 5_000 + '"}' + '"token' * 10_000
    assert "xxx" not in redacted(text) and len(redacted(text)) <= KEPT_TEXT


def test_frames_about_nobody_known_share_one_place() -> None:
    traces = Traces(SystemClock(), {"dvc_1": "CP1"})
    traces.note(traces.about("POST /devices/dvc_1/x"), True, "mine")
    traces.note("CP9", True, "foreign")
    assert [(trace.about, texts([trace])) for trace in traces.told("c")] == [
        ("", ["foreign"]),
        ("CP1", ["mine"]),
    ]


# --- OCPP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "hidden"),
    [
        ({"idToken": {"idToken": "04AABBCC", "additionalInfo": [{"additionalIdToken": "DE8AA1234", "type": "x"}]}},
         "DE8AA1234"),
        ({"connectionData": {"apn": {"apn": "x", "apnPassword": "pw-of-apn", "simPin": 4711}}}, "4711"),
        ({"connectionData": {"apn": {"apn": "x", "apnPassword": "pw-of-apn", "simPin": 4711}}}, "pw-of-apn"),
        ({"data": "name: A. Bos", "seqNo": 0, "requestId": 1}, "A. Bos"),
    ],
)  # fmt: skip
def test_ocpp_frames_hide_what_the_newer_versions_can_hold(payload: dict[str, Any], hidden: str) -> None:
    text = json.dumps([2, "1", "NotifyCustomerInformation", payload])
    assert hidden in text and hidden not in ocpp_redacted(text)


@asynccontextmanager
async def running(driver: ModbusMeters) -> AsyncIterator[Reports]:
    reports = Reports()
    task = asyncio.create_task(driver.run(reports))  # type: ignore[arg-type]
    try:
        yield reports
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- Modbus ----------------------------------------------------------------------------------------------------------


async def test_what_passes_a_bus_is_kept_as_bytes_by_unit() -> None:
    relay = SimRelay()
    async with listening(relay):
        relay.closed[3] = True
        contacts = (contact(relay.port, "a", "coil", 3), contact(relay.port, "b", "input", 9))
        driver = ModbusMeters((), SystemClock(), contacts)
        async with running(driver) as reports:
            await reports.until(said("a", True))
            await reports.until(said("b", False))
            await reports.until(said("a", True))
            assert isinstance(driver, Traced)
            traces = {trace.about: list(trace.frames) for trace in driver.traces()}
        assert set(traces) == {"input a", "input b"}
        asked, told = traces["input a"][:2]
        assert asked.sent and not told.sent
        assert asked.text.split()[6:] == ["01", "01", "00", "03", "00", "01"], "unit 1, read coils, at 3, one"
        assert told.text.split()[6:] == ["01", "01", "01", "01"]
        assert sum(map(len, traces.values())) <= KEPT_FRAMES
