"""Commands that serve or prepare serving: run, check."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

from controller.cli import readings
from controller.cli.compose import House, first_line, until_signalled
from controller.cli.journald import JournalHandler, connected
from controller.cli.mishaps import Mishaps
from controller.clock import SystemClock, kept_clock
from controller.config import Config, describe, load
from controller.ledger import LedgerError
from controller.tariff_file import prices_troubles
from drivers.errors import DriverError, Misconfigured, WrongUse
from ui.app import run_async


def check(options: argparse.Namespace) -> int:
    config = load(Path(options.file))
    House(config, SystemClock())  # meter kinds and addresses are judged by their drivers
    print(readings.describe(config.readings) if options.readings else describe(config))
    wrong = prices_troubles(config)
    for trouble in wrong:
        print(f"depot: {trouble}", file=sys.stderr)
    return 1 if wrong else 0


def run(options: argparse.Namespace) -> int:
    config = load(Path(options.file))
    stations = {evse.station for evse in config.site.evses.values()}
    logs(config.storage_path / "depot.log" if options.ui else None, (*stations, *config.site.evses))
    return serve(config, options.ui, options.octt_trigger)


def serve(config: Config, with_ui: bool, octt: str | None = None) -> int:
    """Runs the controller until it is told to stop. Exit code 1 with one line when it cannot. `octt`: where a compliance
    suite may give orders."""

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(Mishaps().heard)
        house = House(config, kept_clock(config.storage_path))
        address = None if octt is None else house.conformance_address(octt)
        async with house.open() as runtime:
            others = [] if address is None else [house.conformance_door(address, runtime).run]
            controller = until_signalled(house.run(runtime, others))
            await (beside(controller, run_async(config.control_socket)) if with_ui else controller)

    return in_one_line(work)


def in_one_line(
    work: Callable[[], Coroutine[Any, Any, None]],
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Runs `work`; what a person must mend becomes one line on stderr and exit code 1. Raises WrongUse."""
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(work())
    except WrongUse:
        raise
    except (LedgerError, DriverError) as error:
        text: str | None = str(error)
    except BaseExceptionGroup as group:
        text = first_line(group)
        if text is None:
            raise
    else:
        return 0
    print(f"depot: {text}", file=sys.stderr)
    return 1


async def beside(controller: Coroutine[Any, Any, None], screen: Coroutine[Any, Any, None]) -> None:
    """Controller and dashboard in one process: when one ends, so does the other."""
    tasks = [asyncio.ensure_future(controller), asyncio.ensure_future(screen)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()


def logs(path: Path | None, names: Collection[str] = ()) -> None:
    """One line per event to standard error (under systemd: a record with fields, `names` among them, to the journal), or to
    a file while a dashboard owns the terminal.

    Raises Misconfigured when that file cannot be written.
    """
    target: logging.Handler
    if path is None:
        target = JournalHandler(names) if connected() else logging.StreamHandler(sys.stderr)
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}; set [storage] path") from None
    words = (
        "%(name)s: %(message)s"
        if isinstance(target, JournalHandler)
        else "%(levelname)s %(name)s: %(message)s"
    )
    target.setFormatter(logging.Formatter(words))
    logging.basicConfig(level=logging.INFO, handlers=[target], force=True)
