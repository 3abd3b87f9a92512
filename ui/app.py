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
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.theme import Theme

from controller.core.model import EvseId
from ui.client import CallRefused, Client, Disconnected, NotReachable, Source
from ui.format import Glyphs, glyphs_for
from ui.picture import Picture, ranked_evses
from ui.screens.base import DepotScreen
from ui.screens.evse import EvseScreen
from ui.screens.help import HelpScreen
from ui.screens.overview import OverviewScreen
from ui.verbs import Order

REPAINT_S = 0.25

# Number keys 1 to 7 belong to screens; "go" knows a screen by its name.
SCREENS: dict[str, Callable[[Glyphs], DepotScreen]] = {"overview": OverviewScreen, "evse": EvseScreen}

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
        Binding("1", "go('overview')"),
        Binding("2", "go('evse')"),
        Binding("question_mark", "help"),
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True, system=True),
    ]

    def __init__(self, source: Source, *, read_only: bool = False, glyphs: Glyphs | None = None) -> None:
        super().__init__()
        self.register_theme(_THEME)
        self.theme = "depot"
        self.read_only = read_only
        self.picture = Picture()
        self.selected: EvseId | None = None
        self._source = source
        self._glyphs = glyphs or glyphs_for(os.environ, sys.stdout.encoding or "ascii")
        self._changed = asyncio.Event()

    def on_mount(self) -> None:
        for name, make in SCREENS.items():
            self.install_screen(make(self._glyphs), name)
        self.install_screen(HelpScreen(self._glyphs), "help")
        self.push_screen("overview")
        self.run_worker(self._follow(), name="follow")
        self.run_worker(self._repaint(), name="repaint")

    # --- the two tasks -------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async with aclosing(self._source.watch()) as pictures:
            async for news in pictures:
                before = self.picture
                if isinstance(news, Disconnected):
                    self.picture = Picture(before.snapshot, news.text)
                else:
                    self.picture = Picture(news, None)
                if self.picture != before:
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
        while len(self.screen_stack) > 2:
            self.pop_screen()
        if name != "overview":
            self.push_screen(name)

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpScreen):
            self.push_screen("help")

    def give_order(self, order: Order, evse: EvseId, told: Callable[[str, bool], None]) -> None:
        """Hands a confirmed order to the controller; `told(text, taken)` is called with the answer."""
        self.run_worker(self._hand_over(order, evse, told), name=f"order {order.verb}")

    async def _hand_over(self, order: Order, evse: EvseId, told: Callable[[str, bool], None]) -> None:
        try:
            answer = await self._source.call(order.verb.value, evse=evse, **order.args)
        except CallRefused as refused:
            told(f"{order.verb} of {evse} refused: {refused.text}", False)
        except NotReachable as error:
            told(f"{order.verb} of {evse}: no answer, it may or may not have arrived ({error})", False)
        else:
            told(f"{order.verb} of {evse}: taken as order {answer.get('order', '?')}, progress above", True)


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
