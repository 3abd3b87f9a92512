"""A list whose rows can be taken along: `c` hands the chosen one to the clipboard of the person's own terminal.

By OSC 52, which goes through SSH and leaves nothing on this computer. Nobody answers it: whether the terminal took it cannot
be known, so nothing more than "sent" is claimed, and terminals that are known not to understand it are spared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType

from ui.format import clean
from ui.lines import Tone
from ui.screens.rows import Row, RowsScreen

MOST = 8_000  # characters; terminals take little more
WITHOUT = (
    "linux",
    "vt",
    "dumb",
    "ansi",
    "cons",
)  # how TERM begins where OSC 52 is not understood, but may be shown


class CopyingScreen(RowsScreen):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "copy")]

    def copied(self, row: Row) -> str:
        """The row as text for somebody elsewhere: whole, not cut to the width of this screen."""
        return row.words

    def action_copy(self) -> None:
        row = self.row()
        text = "" if row is None else self.copied(row)
        if not text:
            self.say("nothing to copy", Tone.HIGH)
        elif not takes_copies(os.environ):
            self.say(
                f"the terminal {os.environ.get('TERM')} has no clipboard; use a twin: depot ... --json",
                Tone.HIGH,
            )
        else:
            whole = "\n".join(clean(part, self.glyphs) for part in text[:MOST].splitlines())
            self.app.copy_to_clipboard(whole)
            first = whole.partition("\n")[0]
            self.say(f"sent to the clipboard of your terminal (tmux: set-clipboard on): {first}")
        self.repaint()


def takes_copies(environ: Mapping[str, str]) -> bool:
    return not environ.get("TERM", "").startswith(WITHOUT)
