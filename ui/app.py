"""The dashboard application: one task follows the source, one repaints, screens show.

Owns the link to the source, the newest picture, and who is selected. Must not decide anything about charging, must
not wait for the network in a key handler, and never claims an order happened: that is in the next picture.
Repaints at most four times a second; pictures that arrive in between replace each other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from textual import events, work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.theme import Theme

from controller.core.model import EvseId
from ui import palette
from ui.client import CallRefused, Client, Disconnected, NotReachable, Source
from ui.errands import Errands
from ui.format import Glyphs, glyphs_for
from ui.history import History
from ui.lines import Tone
from ui.picture import Picture, ranked_evses
from ui.screens.alarms import AlarmsScreen
from ui.screens.base import DepotScreen
from ui.screens.channels import ChannelsScreen
from ui.screens.confirming import Question
from ui.screens.evse import EvseScreen
from ui.screens.help import HelpScreen
from ui.screens.log import LogScreen
from ui.screens.overview import OverviewScreen
from ui.screens.plan import PlanScreen
from ui.screens.sessions import SessionsScreen
from ui.terminal import StdoutDriver
from ui.told import Told, ask, why_words

REPAINT_S = 0.25
IDLE_S = 600.0  # a terminal somebody walked away from must not act for whoever comes next
IDLE_LOOK_S = 5.0
UNLOCK = "unlock"

# Number keys 1 to 7 belong to screens; "go" knows a screen by its name.
SCREENS: dict[str, Callable[[Glyphs], DepotScreen]] = {
    "overview": OverviewScreen,
    "evse": EvseScreen,
    "sessions": SessionsScreen,
    "plan": PlanScreen,
    "alarms": AlarmsScreen,
    "channels": ChannelsScreen,
    "log": LogScreen,
}

_THEME = Theme(
    name="depot",
    primary="ansi_default",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    ansi=True,
    variables={
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "border": "ansi_default",
        "border-blurred": "ansi_default",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-background": "ansi_white",
        "input-cursor-foreground": "ansi_black",
        "input-cursor-background": "ansi_white",
        "input-selection-foreground": "ansi_black",
        "input-selection-background": "ansi_cyan",
        "screen-selection-foreground": "ansi_black",
        "screen-selection-background": "ansi_cyan",
    },
)


class DepotApp(App[None]):
    """The dashboard on a source of pictures. `read_only` disables every verb, visibly."""

    CSS_PATH = "depot.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "depot"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"go('{name}')") for number, name in enumerate(SCREENS, 1)),
        Binding("A", "go('alarms')"),
        Binding("question_mark", "help"),
        # first of all, so that what follows in the same burst (a slow link, a paste) is text and not keys
        Binding("colon", "command", priority=True),
        Binding("slash", "filter", priority=True),
        Binding("L", "lock"),
        Binding("q", "leave"),
        Binding("ctrl+c", "quit", priority=True, system=True),
    ]

    def __init__(self, source: Source, *, read_only: bool = False, glyphs: Glyphs | None = None) -> None:
        super().__init__(driver_class=StdoutDriver)
        self.register_theme(_THEME)
        self.theme = "depot"
        self.read_only = read_only
        self.locked = False
        self.may_not: str | None = None  # why this user may look but not act, as the controller says
        self.picture = Picture()
        self.history = History()
        self.errands = Errands()
        self.selected: EvseId | None = None
        self.source = source
        self.helped: DepotScreen | None = None  # whose keys the help screen tells
        self._glyphs = glyphs or glyphs_for(os.environ, sys.stdout.encoding or "ascii")
        self._changed = asyncio.Event()
        self._touched_s = time.monotonic()
        self._given: set[str] = set()  # orders of this dashboard, as the controller named them
        self._leaving = False

    def on_mount(self) -> None:
        for name, make in SCREENS.items():
            self.install_screen(make(self._glyphs), name)
        self.install_screen(HelpScreen(self._glyphs), "help")
        self.push_screen("overview")
        self.run_worker(self._follow(), name="follow")
        self.run_worker(self._repaint(), name="repaint")
        self.set_interval(IDLE_LOOK_S, self._look_idle)

    @property
    def restriction(self) -> str | None:
        """Why this dashboard cannot act, as one word for the header."""
        if self.read_only:
            return "READ-ONLY"
        if self.may_not is not None:
            return "VIEWER"
        return "LOCKED" if self.locked else None

    @property
    def why_restricted(self) -> str:
        if self.read_only:
            return "read-only dashboard: start it without --read-only"
        if self.may_not is not None:
            return self.may_not
        return f"locked: press L and type {UNLOCK}"

    # --- the two tasks -------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async with aclosing(self.source.watch()) as pictures:
            async for news in pictures:
                before = self.picture
                if isinstance(news, Disconnected):
                    self.picture = Picture(before.snapshot, news.text)
                else:
                    self.picture = Picture(news, None)
                    self.history.see(news)
                    self.errands.see(news)
                    if before.lost is not None:  # rights may have changed with the controller
                        self._introduce()
                        if isinstance(self.screen, DepotScreen):
                            self.screen.ask_again()
                if self.picture != before:
                    self._changed.set()

    @work(group="introduce", exclusive=True)
    async def _introduce(self) -> None:
        """Asks who we are: keys that will be refused should not look as if they worked."""
        told = (await ask(self.source, Told(), "whoami", {})).document
        if told is not None:
            self.may_not = (
                None if told.get("role") == "operator" else str(told.get("why") or "viewer rights only")
            )
            self._changed.set()

    async def _repaint(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if isinstance(self.screen, DepotScreen):
                self.screen.repaint()
            await asyncio.sleep(REPAINT_S)

    # --- what keys do --------------------------------------------------------------------------------------------

    def action_go(self, name: str) -> None:
        """Shows a screen; the overview is always below, so Escape leads there.

        An EVSE is chosen here and not while its screen is open: a row that moves must not change what `y` means.
        """
        snapshot = self.picture.snapshot
        if self.selected is None and snapshot is not None and snapshot.evses:
            self.selected = ranked_evses(snapshot)[0][1].id
        shown: object = self.get_screen(name)
        if shown is self.screen and isinstance(shown, DepotScreen):
            shown.ask_again()  # it may be about another EVSE now
            return
        while len(self.screen_stack) > 2:
            self.pop_screen()
        if name != "overview":
            self.push_screen(name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action not in ("command", "filter"):
            return True
        shown = self.screen
        return isinstance(shown, DepotScreen) and not isinstance(shown, HelpScreen) and not shown.asking_line

    def action_command(self) -> None:
        if isinstance(self.screen, DepotScreen):
            self.screen.action_command()

    def action_filter(self) -> None:
        if isinstance(self.screen, DepotScreen):
            self.screen.action_filter()

    def action_help(self) -> None:
        if isinstance(self.screen, DepotScreen) and not isinstance(self.screen, HelpScreen):
            self.helped = self.screen
            self.push_screen("help")

    def action_lock(self) -> None:
        """Locks at once; takes the lock away only for somebody who types a word, which no elbow does."""
        screen = self.screen
        if not isinstance(screen, DepotScreen):
            return
        if self.locked:
            screen.ask_line("", f"locked: type {UNLOCK} and Enter, Esc = stay locked", self._unlock)
        else:
            self.locked = True
            screen.say("")
        screen.repaint()

    def _unlock(self, typed: str) -> None:
        self.locked = typed.strip().casefold() != UNLOCK
        if isinstance(self.screen, DepotScreen):
            wrong = f"still locked: that was not the word {UNLOCK}"
            self.screen.say(wrong if self.locked else "unlocked", Tone.HIGH if self.locked else Tone.PLAIN)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key | events.Paste):
            self._touched_s = time.monotonic()
        await super().on_event(event)

    def _look_idle(self) -> None:
        if not self.locked and time.monotonic() - self._touched_s > IDLE_S:
            self.locked = True
            self._changed.set()

    def action_leave(self) -> None:
        """Quits; asks once more while an order given here is under way."""
        orders = self.picture.snapshot.orders if self.picture.snapshot else ()
        pending = [order.id for order in orders if order.id in self._given and order.outcome is None]
        pending += self.errands.pending
        if pending and not self._leaving and isinstance(self.screen, DepotScreen):
            self._leaving = True
            told = f"order {pending[-1]} is under way and goes on without this screen; q again leaves"
            self.screen.say(told, Tone.LOW)
            self.screen.repaint()
        else:
            self.exit()

    def run_command(self, typed: str) -> None:
        """What was typed behind `:`."""
        if not typed.strip() or not isinstance(self.screen, DepotScreen):
            return
        match palette.chosen(typed, self.picture):
            case str(why):
                self.screen.say(why, Tone.HIGH)
            case palette.Suggestion(place="help"):
                self.action_help()
            case palette.Suggestion(place=str(place)):
                self.action_go(place)
            case palette.Suggestion(action="quit"):
                self.action_leave()
            case palette.Suggestion(action="lock"):
                self.locked = True
            case palette.Suggestion(action="reload"):
                self.screen.ask_again()
            case palette.Suggestion(action=str(action)) if action in palette.KEYS_OF:
                place, key = palette.KEYS_OF[action]
                self.action_go(place)
                self.call_later(getattr(self.get_screen(place), f"action_{key}"))
            case palette.Suggestion(evse=evse, verb=verb, args=args):
                self.selected = evse
                self.action_go("evse")
                screen = self.get_screen("evse", EvseScreen)
                if verb is not None:
                    self.call_later(screen.choose_verb, verb, args)

    @work
    async def give_errand(self, asked: Question) -> None:
        """Has the station asked; what it says stands among its orders."""
        snapshot = self.picture.snapshot
        if snapshot is None:
            return
        id = self.errands.sent(asked.name, EvseId(asked.of), asked.errand or "", snapshot.time)
        self._leaving = False
        self._changed.set()
        try:
            answer = await self.source.call(asked.call, **asked.args)
        except CallRefused as refused:
            if refused.code == "not-allowed":
                self._introduce()
            said, yes = refused.text, False
        except NotReachable as error:
            said, yes = f"no answer, it may or may not have arrived ({error})", False
        else:
            said, yes = str(answer.get("said")), bool(answer.get("done"))
        self.errands.answered(
            id, said, yes, self.picture.snapshot.time if self.picture.snapshot else snapshot.time
        )
        self._changed.set()

    def ask_why(self, evse: EvseId, told: Callable[[str, bool], None]) -> None:
        """Which limit binds this EVSE, who set it, and what it would get without: one line to `told`."""
        self._why(evse, told)

    @work(group="why", exclusive=True)
    async def _why(self, evse: EvseId, told: Callable[[str, bool], None]) -> None:
        answer = await ask(self.source, Told(), "why", {"evse": evse})
        told(answer.trouble or why_words(answer.document or {}), answer.trouble is None)

    @work
    async def give_order(self, asked: Question, told: Callable[[str, bool], None]) -> None:
        """Hands a confirmed order to the controller; `told(text, taken)` is called with the answer."""
        what = f"{asked.name} of {asked.of}"
        try:
            answer = await self.source.call(asked.call, **asked.args)
        except CallRefused as refused:
            if refused.code == "not-allowed":
                self._introduce()
            told(f"{what} refused: {refused.text}", False)
        except NotReachable as error:
            told(f"{what}: no answer, it may or may not have arrived ({error})", False)
        else:
            order = answer.get("order")
            if isinstance(order, str):
                self._given.add(order)
                self._leaving = False
            told(f"{what}: taken as order {order}, progress above" if order else f"{what}: done", True)


async def run_async(socket_path: str | Path, read_only: bool = False) -> None:
    """The dashboard inside a running loop (`depot demo`, `depot run --ui`); returns when the user quits."""
    await DepotApp(Client(socket_path), read_only=read_only).run_async(mouse=False)


def run_dashboard(socket_path: str | Path, read_only: bool = False) -> int:
    """`depot ui`: the dashboard as its own process. Returns the exit code; 2 when there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("depot ui needs a terminal; without one use: depot status --json", file=sys.stderr)
        return 2
    app = DepotApp(Client(socket_path), read_only=read_only)
    asyncio.run(_until_quit(app))
    return app.return_code or 0


async def _until_quit(app: DepotApp) -> None:
    """Runs the app; a signal ends it like `q`, so that it never leaves a terminal without echo behind."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, app.exit)
    await app.run_async(mouse=False)
