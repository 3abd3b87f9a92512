"""The connection to a broker: it comes and goes, and nothing in the depot waits for it.

Owns the client, its pace and its queues: of every state only the newest exists, of what happened the last 200. A broker
that is away is one alarm of the lowest priority; charging goes on. Orders are taken only where the config allows them,
never from a retained message (it could be years old), and every one is audited by the depot like a person's. Must not
decide anything. Source: MQTT 3.1.1; the client library is aiomqtt over paho-mqtt.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import aiomqtt

from controller.core.events import (
    ChannelChanged,
    LimitWished,
    PauseWished,
    ResumeWished,
    StartWished,
    StopWished,
)
from controller.core.model import EvseId
from controller.core.snapshot import Snapshot
from controller.core.units import parse_current_ma
from controller.core.wishes import Wished
from controller.ports import Clock, Report
from drivers.errors import Misconfigured
from drivers.mqtt import words
from drivers.mqtt.settings import MqttSettings

log = logging.getLogger(__name__)
_WIRE = logging.getLogger(f"{__name__}.wire")  # the library's own words
_WIRE.setLevel(logging.ERROR)

CHANNEL = "mqtt"
BY = "mqtt"
LOOK_S = 1.0
ANSWER_S = 5.0  # for connecting and for one message
KEEPALIVE_S = 8  # also what the library gives a TLS handshake, in a thread that a stop waits for
RETRY_S = (1.0, 60.0)  # pause before the next try: first, longest
EVENTS = 200  # kept while the broker is away; the oldest goes first
HEARD = 100  # orders that wait
PAYLOAD_BYTES = 64
ORDER_S = 0.1  # between two orders: each is audited

_SIMPLE: dict[str, Callable[[str, str, EvseId], Wished]] = {
    "start": StartWished,
    "stop": StopWished,
    "pause": PauseWished,
    "resume": ResumeWished,
}


class MqttLink:
    """Satisfies `controller.ports.Driver`. `look`: the newest picture."""

    def __init__(self, settings: MqttSettings, clock: Clock, look: Callable[[], Snapshot | None]) -> None:
        self._settings = settings
        self._clock = clock
        self._look = look
        self._tls = _context(settings) if settings.tls else None
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._seen: Snapshot | None = None
        self._sent: dict[str, tuple[str, float]] = {}  # topic -> what makes it urgent, when
        self._born = False  # Home Assistant has started: tell it everything
        self._orders = 0
        self._state = ""
        self._refused = ""  # the topic of the last one: its repetitions are not logged

    async def run(self, report: Report) -> None:
        """Until cancelled, across every loss of the broker."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._note())
            await self._keep_connected(report)

    async def _keep_connected(self, report: Report) -> None:
        where = f"{self._settings.host}:{self._settings.port}"
        pause_s = RETRY_S[0]
        while True:
            began_s = self._clock.now().mono_s
            try:
                async with asyncio.TaskGroup() as tasks, self._client() as client:
                    await self._tell(report, "ok", f"connected to {where}")
                    tasks.create_task(self._hear(client, report))
                    await self._publish_all(client)
            except* (aiomqtt.MqttError, OSError) as group:
                if not _cancelled():
                    text = f"{where}: {_first_line(group)}; charging goes on without it"
                    await self._tell(report, "degraded", text)
            if _cancelled():  # a task group that ends by an error forgets that it was cancelled too
                raise asyncio.CancelledError
            if self._clock.now().mono_s - began_s > RETRY_S[1]:
                pause_s = RETRY_S[0]
            await self._clock.sleep(pause_s)
            pause_s = min(RETRY_S[1], pause_s * 2)

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        return aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            identifier=f"depot-{settings.topic.replace('/', '-')}",
            will=aiomqtt.Will(words.status_topic(settings.topic), "offline", qos=1, retain=True),
            timeout=ANSWER_S,
            keepalive=KEEPALIVE_S,
            max_queued_incoming_messages=HEARD,
            max_queued_outgoing_messages=EVENTS,
            tls_context=self._tls,
            logger=_WIRE,
        )

    async def _tell(self, report: Report, state: str, text: str) -> None:
        """Once per change."""
        if f"{state} {text}" == self._state:
            return
        self._state = f"{state} {text}"
        log.log(logging.INFO if state == "ok" else logging.WARNING, "mqtt: %s", text)
        await report(ChannelChanged(CHANNEL, state, text, host=self._settings.host))

    # --- outward ------------------------------------------------------------------------------------------------

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        """Until the broker is lost."""
        topic = self._settings.topic
        if self._settings.home_assistant:
            await client.subscribe(words.BIRTH_TOPIC, qos=1)
        if self._settings.commands:
            await client.subscribe(words.orders_topic(topic), qos=1)
        self._born = True
        try:
            while True:
                if (snapshot := self._look()) is not None:
                    await self._publish(client, snapshot)
                if _cancelled():
                    raise asyncio.CancelledError
                await self._clock.sleep(LOOK_S)
        except asyncio.CancelledError:
            # a stop that is wanted must tell them: the broker publishes our will only when it loses us
            with suppress(aiomqtt.MqttError):
                await client.publish(words.status_topic(topic), "offline", qos=1, retain=True, timeout=1.0)
            raise

    async def _publish(self, client: aiomqtt.Client, snapshot: Snapshot) -> None:
        topic = self._settings.topic
        if self._born:
            self._born = False
            self._sent.clear()
            if self._settings.home_assistant:
                for place, document in words.discovery(self._settings, snapshot):
                    await client.publish(place, words.text(document), qos=1, retain=True)
            await client.publish(words.status_topic(topic), "online", qos=1, retain=True)
        now_s = self._clock.now().mono_s
        for place, urgent, document in words.states(topic, snapshot):
            known, sent_s = self._sent.get(place, ("", float("-inf")))
            if known != urgent or now_s - sent_s >= words.PUBLISH_S:
                await client.publish(place, words.text(document))
                self._sent[place] = (urgent, now_s)
        while self._events:
            event = self._events[0]
            await client.publish(f"{topic}/event", event, qos=1)
            if self._events and self._events[0] is event:  # else it was pushed out meanwhile
                self._events.popleft()

    async def _note(self) -> None:
        """What happens, also while the broker is away."""
        while True:
            snapshot = self._look()
            if snapshot is not None and self._seen is not None:
                self._events.extend(words.text(each) for each in words.happened(self._seen, snapshot))
            self._seen = snapshot or self._seen
            await self._clock.sleep(LOOK_S)

    # --- inward -------------------------------------------------------------------------------------------------

    async def _hear(self, client: aiomqtt.Client, report: Report) -> None:
        async for message in client.messages:
            heard, payload = str(message.topic), message.payload
            content = bytes(payload)[:PAYLOAD_BYTES] if isinstance(payload, bytes | bytearray) else b""
            if heard == words.BIRTH_TOPIC:
                self._born = self._born or content == b"online"
                continue
            wish = None if message.retain else self._wish(heard, content.decode(errors="replace").strip())
            if wish is not None:
                await report(wish)
                await self._clock.sleep(ORDER_S)
            elif heard != self._refused:
                self._refused = heard
                log.warning("mqtt: order not taken: %.80r", heard)

    def _wish(self, heard: str, content: str) -> Wished | None:
        """The order, or None if it is none, or not allowed here."""
        found = words.order_of(self._settings.topic, heard)
        if found is None or found[0] not in self._settings.max_ma or found[1] not in self._settings.commands:
            return None
        evse, order = found
        self._orders += 1
        id = f"m-{self._orders}"
        if order == "limit":
            limit_ma = None if content == "none" else _amps(content)
            return None if limit_ma is None and content != "none" else LimitWished(id, BY, evse, limit_ma)
        return _SIMPLE[order](id, BY, evse)


def _cancelled() -> bool:
    """The library waits in a way that can swallow being cancelled (wait_for of Python 3.11)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _amps(content: str) -> int | None:
    """Amps as Home Assistant writes them: "10" or "10.5". A limit rounds down."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", content):
        return None
    return parse_current_ma(f"{content} A")


def _first_line(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = str(error.__cause__ or error).splitlines()
    return said[0][:100] if said else "does not answer"


def _context(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert is not None and settings.key is not None:
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"mqtt: certificates cannot be used: {error}") from None
    return context
