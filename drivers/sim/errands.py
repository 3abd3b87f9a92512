"""What a simulated OCPP charger does besides charging: fetching firmware and handing in logs, over real HTTP.

Owns the order of these jobs and of what they report, in the words of OCPP 2.0.1, which 1.6 shares. Must not know
how a charger is told to start one, nor how it says what became of it. Other addresses than http(s) are only acted
out. Source: OCPP 1.6 sections 4.4, 4.5, 6; OCPP 2.0.1 L01, N01.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp

from controller.ports import Clock
from drivers.errors import Unreachable

log = logging.getLogger(__name__)

STEP_S = 1.0  # a download that is only acted out, and the writing of an image
PATIENCE_S = 30.0  # real seconds for one transfer
LARGEST_IMAGE = 64 * 1024 * 1024
DIGITS = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Update:
    """`signed`: the image comes with a signature, which is acted out too."""

    location: str
    retrieve_at: datetime
    install_at: datetime | None = None
    retries: int = 0
    retry_s: float = 60.0
    signed: bool = False


class Errands:
    """At most one job of a kind: a newer one ends the older.

    fails   what goes wrong on purpose: "download", "signature", "install", "upload"
    """

    def __init__(
        self, station: str, clock: Clock, utc: Callable[[], datetime], fails: Collection[str]
    ) -> None:
        self._station = station
        self._clock = clock
        self._utc = utc
        self._fails = fails
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def busy(self, kind: str) -> bool:
        task = self._tasks.get(kind)
        return task is not None and not task.done()

    def start(self, kind: str, work: Coroutine[Any, Any, None]) -> bool:
        """Whether an older job of this kind had to end for it."""
        replaced = self.busy(kind)
        if replaced:
            self._tasks[kind].cancel()
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        self._tasks[kind] = task
        return replaced

    def give_up(self) -> None:
        """The power is gone."""
        for task in self._tasks.values():
            task.cancel()

    async def close(self) -> None:
        self.give_up()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def update(
        self,
        order: Update,
        say: Callable[[str], None],
        idle: Callable[[], bool],
        install: Callable[[str | None], None],
    ) -> None:
        """Downloads, waits until nobody charges (`idle`), then `install(version)` writes it and reboots."""
        await self._wait_until(order.retrieve_at, lambda: say("DownloadScheduled"))
        for attempt in range(order.retries + 1):
            say("Downloading")
            try:
                await self._fetch(order.location)
                break
            except Unreachable as error:
                log.info("%s: firmware: %s", self._station, error)
                if attempt == order.retries:
                    say("DownloadFailed")
                    return
            await self._clock.sleep(order.retry_s)
        say("Downloaded")
        if order.signed:
            say("InvalidSignature" if "signature" in self._fails else "SignatureVerified")
            if "signature" in self._fails:
                return
        if order.install_at is not None:
            await self._wait_until(order.install_at, lambda: say("InstallScheduled"))
        while not idle():
            await self._clock.sleep(STEP_S)
        say("Installing")
        await self._clock.sleep(STEP_S)
        if "install" in self._fails:
            say("InstallationFailed")
            return
        say("InstallRebooting")
        await self._clock.sleep(STEP_S)  # the last words still have to get out
        found = DIGITS.findall(order.location.rpartition("/")[2])
        install(found[-1] if found else None)

    async def hand_in(self, location: str, name: str, body: str, say: Callable[[str], None]) -> None:
        """Uploads a small file, and says how that goes."""
        say("Uploading")
        try:
            await self._upload(location, name, body)
        except Unreachable as error:
            log.info("%s: upload: %s", self._station, error)
            say("UploadFailure")
        else:
            say("Uploaded")

    async def _fetch(self, location: str) -> None:
        if "download" in self._fails:
            raise Unreachable("the download fails on purpose")
        if not location.startswith(("http://", "https://")):
            await self._clock.sleep(STEP_S)
            return
        try:
            async with _client() as client, client.get(location) as answer:
                if answer.status != 200:
                    raise Unreachable(f"{location}: HTTP {answer.status}")
                size = 0
                async for part in answer.content.iter_chunked(65536):
                    size += len(part)
                    if size > LARGEST_IMAGE:
                        raise Unreachable(f"{location}: no image of ours is that large")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"{location}: {type(error).__name__}: {error}") from None

    async def _upload(self, location: str, name: str, body: str) -> None:
        if "upload" in self._fails:
            raise Unreachable("the upload fails on purpose")
        if not location.startswith(("http://", "https://")):
            await self._clock.sleep(STEP_S)
            return
        url = f"{location}{name}" if location.endswith("/") else location
        try:
            async with _client() as client:
                async with client.put(url, data=body.encode()) as answer:
                    status = answer.status
                if status == 405:  # a server that takes forms only
                    async with client.post(url, data=body.encode()) as answer:
                        status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"{url}: {type(error).__name__}: {error}") from None
        if not 200 <= status < 300:
            raise Unreachable(f"{url}: HTTP {status}")

    async def _wait_until(self, moment: datetime, say: Callable[[], None]) -> None:
        wait_s = (moment - self._utc()).total_seconds()
        if wait_s > 0:
            say()
            await self._clock.sleep(wait_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: an errand broke off", self._station, exc_info=error)


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
