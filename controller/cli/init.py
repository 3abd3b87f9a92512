"""`depot init`: a first config by questions and answers, checked before it replaces anything.

Owns the conversation and the moment of writing. Everything is held in memory until the last answer; then the files appear at
once, secrets first (mode 0600, never overwritten) and the config last, or none does. Answers come from a terminal or, one a
line, from a pipe: there a wrong answer ends it, for nobody could answer again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from controller.cli import init_finds
from controller.cli.serve import check
from controller.config import ConfigError, load
from controller.config.circuits import zone_name
from controller.config.draft import (
    Draft,
    DraftCircuit,
    DraftMeter,
    DraftStation,
    assumed_below,
    with_fallbacks,
    written,
)
from controller.config.values import (
    Wrong,
    current_ma,
    identifier,
    in_amps,
    phases,
    positive_current_ma,
    quoted,
    text,
    voltage_mv,
)
from controller.core.model import SITE
from drivers.errors import Misconfigured

T = TypeVar("T")
MOST_EVSES = 20
LEAST_MA = 6_000
CREDENTIALS = "credentials"  # of the installed service (systemd/README.md)


class Talk:
    """Questions and answers. Raises Misconfigured where nobody answers, or wrongly through a pipe."""

    def __init__(self) -> None:
        self.live = sys.stdin.isatty()

    def say(self, line: str = "") -> None:
        print(line, flush=True)

    def ask(self, question: str, read: Callable[[str], T], default: str | None = None) -> T:
        """`default` is what an empty answer stands for."""
        while True:
            shown = f"{question} [{default}]: " if default else f"{question}: "
            try:
                answer = input(shown).strip()
            except EOFError:
                self.say()
                raise Misconfigured(f'no answer to "{question.strip()}": nothing was written') from None
            except UnicodeDecodeError:
                raise Misconfigured(f'the answer to "{question.strip()}" is not UTF-8 text') from None
            if not self.live:
                self.say(answer)  # whoever reads along later sees what was answered
            try:
                return read(answer or default or "")
            except Wrong as wrong:
                if not self.live:
                    raise Misconfigured(
                        f"{question.strip()}: {wrong.text}; {wrong.suggestion}; nothing was written"
                    ) from None
                self.say(f"  {wrong.text}; {wrong.suggestion}")

    def yes(self, question: str, default: bool) -> bool:
        return self.ask(f"{question} (yes/no)", _yes, "yes" if default else "no")


def init(options: argparse.Namespace) -> int:
    path, talk = Path(options.file), Talk()
    try:
        if path.exists() and not talk.yes(f"{path} exists. Write a new one in its place?", False):
            talk.say("nothing was written")
            return 1
        if not path.parent.is_dir():
            raise Misconfigured(f"{path.parent}: no such folder; nothing was written")
        draft = with_fallbacks(_told(talk, path))
        talk.say(f"\n{written(draft)}")
        for station in draft.stations:
            if not station.fallback_ma:
                talk.say(
                    f"{station.id} pauses when it is left alone: the fuse does not carry all of them at 6 A"
                )
        if not talk.yes(f"Write this to {path}?", True):
            talk.say("nothing was written")
            return 1
        write(draft, path)
    except KeyboardInterrupt:
        print("\ndepot: stopped; nothing was written", file=sys.stderr)
        return 1
    talk.say()
    code = check(argparse.Namespace(file=str(path), readings=False))
    _next_steps(talk, draft, path)
    return code


def _told(talk: Talk, path: Path) -> Draft:
    talk.say("A first configuration. Enter takes what is in brackets; Ctrl-C writes nothing.\n")
    draft = Draft(
        name=talk.ask("Name of the site", text, "Depot"),
        timezone=talk.ask("Time zone", zone_name, guessed_zone()),
        voltage=f"{talk.ask('Voltage to neutral', _in('V', voltage_mv), '230 V') / 1000:g} V",
        circuits=(),
        here=talk.yes(
            "Books and socket beside the file (no: in /var/lib and /run)",
            path.absolute().parts[1:2] != ("etc",),
        ),
    )
    if not draft.here and (path.parent / CREDENTIALS).is_dir():
        draft = replace(draft, secrets_in=f"{CREDENTIALS}/")
    taken: list[str] = []
    draft = replace(draft, circuits=(_circuit(talk, SITE, None, taken),))
    while name := talk.ask(
        "\nA circuit below it with a fuse of its own, by name (empty: no more)", _new(draft), ""
    ):
        parent = talk.ask(f"{name} is fed by", _one_of(*(c.id for c in draft.circuits)), SITE)
        draft = replace(draft, circuits=(*draft.circuits, _circuit(talk, name, parent, taken)))
    draft = _enough_assumed(talk, draft)
    return _stations(talk, draft)


# --- circuits and meters ----------------------------------------------------------------------------------------------


def _circuit(talk: Talk, id: str, parent: str | None, taken: list[str]) -> DraftCircuit:
    what = "the grid connection" if id == SITE else id
    limit_ma = talk.ask(f"Fuse of {what}, per phase", _in("A", positive_current_ma))
    meter = _meter(talk, what, "main" if id == SITE else id, taken)
    default = in_amps(limit_ma // 2) if id == SITE else "0 A"

    def fitting(answer: str) -> int:
        assumed_ma = _in("A", current_ma)(answer)
        if assumed_ma > limit_ma:
            raise Wrong(f"{answer} is more than the fuse carries", f'write "{in_amps(limit_ma)}" or less')
        return assumed_ma

    if meter is not None and id != SITE:
        return DraftCircuit(id, parent, limit_ma, 0, meter)
    assumed_ma = talk.ask(f"The most that other loads draw on {what}, per phase", fitting, default)
    return DraftCircuit(id, parent, limit_ma, assumed_ma, meter)


def _meter(talk: Talk, what: str, id: str, taken: list[str]) -> DraftMeter | None:
    """Looks where the person says, and lets them choose."""
    question = f"Meter of {what}: address, host, subnet to look through, or none"
    while True:
        at = talk.ask(
            question, lambda answer: [] if answer == "none" else init_finds.addresses(answer), "none"
        )
        if not at:
            return None
        talk.say(f"  asking {len(at)} {'address' if len(at) == 1 else 'addresses'} ...")
        seen, why = asyncio.run(init_finds.meters(at, lambda _: None))
        seen = [each for each in seen if str(each.address) not in taken]
        for line in why:
            talk.say(f"  {line}")
        if not seen:
            talk.say("  no meter found that tells the currents of the phases")
            if not talk.live:
                raise Misconfigured(f"no meter for {what}; nothing was written")
            continue
        for number, each in enumerate(seen, 1):
            talk.say(f"  {number}  {each.address}  {each.found.title}{_currents(each)}")
            for doubt in each.found.doubts:
                talk.say(f"     doubt: {doubt}")
        numbers = [str(number) for number in range(1, len(seen) + 1)]
        chosen = talk.ask("Which one (0: another address)", _one_of("0", *numbers), "1")
        if chosen != "0":
            one = seen[int(chosen) - 1]
            taken.append(str(one.address))
            return DraftMeter(id, one.found.kind, str(one.address), one.found.title)


def _currents(seen: init_finds.Seen) -> str:
    known = [value for value in seen.found.measured.current_a if value is not None]
    return "  " + " / ".join(f"{value:.1f} A" for value in known) if known else ""


def _enough_assumed(talk: Talk, draft: Draft) -> Draft:
    """What flows in a circuit below flows above it too."""
    circuits = list(draft.circuits)
    for number in reversed(range(len(circuits))):
        circuit = circuits[number]
        least_ma = assumed_below(replace(draft, circuits=tuple(circuits)), circuit.id)
        if least_ma <= circuit.assumed_ma:
            continue
        if least_ma > circuit.limit_ma:
            raise Misconfigured(
                f"the circuits below {circuit.id} assume {in_amps(least_ma)} of other loads, above its fuse of"
                f" {in_amps(circuit.limit_ma)}; nothing was written"
            )
        talk.say(f"  {circuit.id}: other loads raised to {in_amps(least_ma)}, the sum of the circuits below")
        circuits[number] = replace(circuit, assumed_ma=least_ma)
    return replace(draft, circuits=tuple(circuits))


# --- stations -------------------------------------------------------------------------------------------------------


def _stations(talk: Talk, draft: Draft) -> Draft:
    port = talk.ask("\nPort for OCPP chargers", _port, str(draft.ocpp_port))
    draft = replace(draft, ocpp_port=port)
    talk.say(f"  Point the chargers at ws://THIS-BOX:{port}/ocpp/ (with their identity behind it).")
    wait_s = talk.ask(
        "Seconds to listen for chargers that connect (0: type them)", _seconds, "60" if talk.live else "0"
    )
    notes: dict[str, str] = {}
    if wait_s:
        talk.say("  listening" + ("; Enter when all have knocked" if talk.live else ""))
        notes = asyncio.run(init_finds.knocks(port, wait_s, talk.say))
        talk.say(f"  {len(notes)} found")
    for id in notes:
        if talk.yes(f"\nTake {id} in?", True):
            draft = replace(draft, stations=(*draft.stations, _station(talk, draft, id)))
    while id := talk.ask("\nA charger, by the identity it is set to (empty: no more)", _new(draft), ""):
        draft = replace(draft, stations=(*draft.stations, _station(talk, draft, id)))
    return replace(draft, notes={id: f"knocked from {peer}" for id, peer in notes.items()})


def _station(talk: Talk, draft: Draft, id: str) -> DraftStation:
    circuit: str = SITE
    if draft.circuits[1:]:
        names = [each.id for each in draft.circuits]
        circuit = talk.ask(f"{id} hangs on", _one_of(*names), names[-1])
    before = draft.stations[-1] if draft.stations else None
    evses = talk.ask(f"{id}: vehicles at once", _count, str(before.evses if before else 1))
    max_ma = talk.ask(
        f"{id}: most per vehicle and phase", _charging, in_amps(before.max_ma if before else 32_000)
    )
    used = talk.ask(f"{id}: phases", _phases, before.phases if before else "L1 L2 L3")
    return DraftStation(id, circuit, evses, max_ma, used)


# --- answers ----------------------------------------------------------------------------------------------------------


def _yes(answer: str) -> bool:
    return _one_of("yes", "no", "y", "n")(answer.lower()) in ("yes", "y")


def _one_of(*known: str) -> Callable[[str], str]:
    def read(answer: str) -> str:
        if answer not in known:
            raise Wrong(f"{quoted(answer)} is not one of them", f"answer {', '.join(known)}")
        return answer

    return read


def _new(draft: Draft) -> Callable[[str], str]:
    names = {*(each.id for each in draft.circuits), *(each.id for each in draft.stations)}

    def read(answer: str) -> str:
        if not answer:
            return ""
        name = identifier(answer)
        if name in names:
            raise Wrong(f"{quoted(name)} is taken", "choose another name, or an empty line for no more")
        return name

    return read


def _in(unit: str, read: Callable[[object], int]) -> Callable[[str], int]:
    """A bare number is one of this unit."""
    return lambda answer: read(f"{answer} {unit}" if answer.replace(".", "", 1).isdecimal() else answer)


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(answer: str) -> int:
        if not (answer.isascii() and answer.isdigit()) or not least <= int(answer) <= most:
            raise Wrong(f"{quoted(answer)} is no whole number from {least} to {most}", "type another one")
        return int(answer)

    return read


_port, _count, _seconds = _number(1, 65_535), _number(1, MOST_EVSES), _number(0, 3600)


def _charging(answer: str) -> int:
    most_ma = _in("A", current_ma)(answer)
    if most_ma < LEAST_MA:
        raise Wrong(f"{answer} charges nothing", 'the least is "6 A"')
    return most_ma


def _phases(answer: str) -> str:
    if not phases(answer):
        raise Wrong("no phase at all", 'write "L1 L2 L3"')
    return answer


def guessed_zone(etc: Path = Path("/etc")) -> str:
    """As this box is set."""
    try:
        name = (etc / "timezone").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        name = str((etc / "localtime").resolve()).partition("zoneinfo/")[2]
    try:
        return zone_name(name)
    except Wrong:
        return "UTC"


# --- writing ----------------------------------------------------------------------------------------------------------


def write(draft: Draft, path: Path) -> None:
    """All files or none. Raises Misconfigured; a config that would be refused never takes the place of another."""
    base = path.parent
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=".depot-init-", dir=base))
        (staging / draft.secrets_in).mkdir(exist_ok=True)
        names = [f"{draft.secrets_in}{each.secret}" for each in draft.stations]
        fresh = [name for name in names if not (base / name).exists()]
        for name in names:
            if name in fresh:
                _put(staging / name, secrets.token_hex(16) + "\n", 0o600)
            else:  # what is there opens a charger already
                shutil.copy2(base / name, staging / name)
        _put(staging / path.name, written(draft), 0o644)
        load(staging / path.name)
        with _undisturbed():
            for name in (*fresh, path.name):
                os.replace(staging / name, base / name)
    except ConfigError as error:
        lines = str(error).replace(f"{staging}{os.sep}", "")
        raise Misconfigured(f"nothing was written, this would be refused: {lines}") from None
    except OSError as error:
        raise Misconfigured(f"{base}: {error.strerror}; nothing was written") from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _put(path: Path, content: str, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Between the first file and the last nobody presses Ctrl-C: a signal waits. (A mask would be one thread's only.)"""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted by one
        return
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda sent, _: waiting.append(sent))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for sent in waiting[:1]:
            signal.raise_signal(sent)


def _next_steps(talk: Talk, draft: Draft, path: Path) -> None:
    sock = f" --socket {path.parent / 'control.sock'}" if draft.here else ""
    talk.say("\nNext:")
    if draft.here:
        talk.say(f"  depot run {path} --ui          run it (as a service: systemd/README.md)")
    else:
        talk.say("  systemctl enable --now depot          run it (after a change: systemctl restart depot)")
    for station in draft.stations[:1]:
        talk.say(
            f"  depot onboard {station.id}{sock}    what to type into the charger, and why it does not connect"
        )
        talk.say(f"  depot qualify {station.id}{sock}    prove, with a vehicle, what it does when left alone")
    if draft.stations:
        talk.say("  each charger has a password file of its own that only you may read")
    else:
        talk.say("  no charger yet: run depot init again, or add [station.ID] as README shows")
