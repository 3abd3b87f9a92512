"""The command line behind `:`. What can be typed, what that means, and what to offer while it is being typed. Pure.

`plan`, `CP002` or `BUS-07`, `limit CP002 10 A`: a screen, an EVSE (by its id or its vehicle), a verb on an EVSE. Verbs
lead to the same question as their key would: nothing here gives an order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.core.model import EvseId
from controller.core.snapshot import EvseView
from ui.picture import Picture, ranked_evses, vehicle_name
from ui.verbs import Verb

PLACES = {
    "overview": "screen 1: circuits and EVSEs, abnormal first",
    "evse": "screen 2: the chosen EVSE and its verbs",
    "sessions": "screen 3: who charged when, how much, at what cost",
    "plan": "screen 4: tonight: timeline, readiness, site power, prices",
    "alarms": "screen 5: alarms with cause and steps",
    "channels": "screen 6: links, consent, what left the site",
    "log": "screen 7: what happened, newest last",
    "help": "the keys of this screen, the marks and words",
}
ACTIONS = {
    "reload": "ask the controller again for what this screen shows",
    "lock": "read-only until unlocked (key L)",
    "quit": "leave; the controller goes on",
    "what-if": "tonight's plan with something different (m)",
    "frames": "the last messages on the wires (log, f)",
    "export": "the listed sessions into a file (e)",
    "acknowledge": "the chosen alarm (alarms, a)",
    "shelve": "the chosen alarm, for a time and with a reason (z)",
    "unshelve": "the chosen alarm (Z)",
    "out-of-service": "what the chosen alarm is about (o)",
    "in-service": "what the chosen alarm is about (i)",
    "disable": "the chosen channel (channels, d)",
    "enable": "the chosen channel: who consents, and for what (e)",
}
KEYS_OF = {  # screen, and what its key does
    "what-if": ("plan", "what_if"),
    "frames": ("log", "frames"),
    "export": ("sessions", "export"),
    **{each: ("alarms", each.replace("-", "_")) for each in ("acknowledge", "shelve", "unshelve")},
    **{each: ("alarms", each.replace("-", "_")) for each in ("out-of-service", "in-service")},
    **{each: ("channels", each) for each in ("disable", "enable")},
}
_VERBS = {
    Verb.START: "EVSE [16 A, 20 kWh, 80 %, 1 h, token ID]",
    Verb.STOP: "EVSE",
    Verb.PAUSE: "EVSE",
    Verb.RESUME: "EVSE",
    Verb.LIMIT: "EVSE 10 A | none",
    Verb.DEPART: "EVSE 05:30 80 % | 05:30 40 kWh",
    Verb.SOC: "EVSE 40 %: what its driver reads",
    Verb.DISCHARGE: "EVSE 5 kW, 30 %, 1 h",
    Verb.UNLOCK: "EVSE: release a stuck cable",
    Verb.TRIGGER: "EVSE status | values | boot | heartbeat | ...",
    Verb.RESET: "EVSE soft | hard | idle",
    Verb.OUT: "EVSE: out of service",
    Verb.IN: "EVSE: back in service",
    Verb.FIRMWARE: "EVSE 1.8.34 [https://host/image.bin]",
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`text` is what would be typed; exactly one of the rest says what it does, none when more must be typed."""

    text: str
    what: str
    place: str | None = None
    action: str | None = None
    evse: EvseId | None = None
    verb: Verb | None = None  # of `evse`, with `args` as typed
    args: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.place or self.action or self.evse)


def suggestions(typed: str, picture: Picture) -> list[Suggestion]:
    """What the text may become, the exact one first. Everything, for an empty text."""
    first, _, rest = typed.strip().partition(" ")
    word = first.casefold()
    if word in tuple(_VERBS):
        return list(_with_verb(Verb(word), rest.strip(), picture))
    found = [*_names(word), *_evses(word, picture)] if not rest else []
    return sorted(found, key=lambda each: each.text.casefold() != word)


def chosen(typed: str, picture: Picture) -> Suggestion | str:
    """What Enter means: the only or the exact suggestion; else why not, in one line."""
    found = suggestions(typed, picture)
    if not found:
        return f"no command '{typed.strip()}'; : alone lists them"
    word = typed.strip().partition(" ")[0].casefold()
    exact = found[0].text.casefold() == word
    if len(found) > 1 and not exact:
        return f"'{typed.strip()}' could be {', '.join(each.text for each in found[:4])}; type more"
    return found[0] if found[0].complete else f"{found[0].text}: which one? {found[0].what}"


def _names(word: str) -> Iterator[Suggestion]:
    for name, what in PLACES.items():
        if name.startswith(word):
            yield Suggestion(name, what, place=name)
    for verb, what in _VERBS.items():
        if verb.startswith(word):
            yield Suggestion(verb, what)
    for name, what in ACTIONS.items():
        if name.startswith(word):
            yield Suggestion(name, what, action=name)


def _evses(word: str, picture: Picture) -> Iterator[Suggestion]:
    for evse in _matching(word, picture):
        yield Suggestion(evse.id, f"{evse.state}  {vehicle_name(evse)}", evse=evse.id)


def _with_verb(verb: Verb, rest: str, picture: Picture) -> Iterator[Suggestion]:
    name, _, args = rest.partition(" ")
    for evse in _matching(name.casefold(), picture):
        what = f"{evse.state}  {vehicle_name(evse)}"
        yield Suggestion(f"{verb} {evse.id} {args}".strip(), what, evse=evse.id, verb=verb, args=args)


def _matching(word: str, picture: Picture) -> list[EvseView]:
    """By id or vehicle; one that is named exactly (its station counts, where it has one EVSE) stands alone."""
    evses = [] if picture.snapshot is None else [evse for _, evse in ranked_evses(picture.snapshot)]
    found = [evse for evse in evses if any(name.startswith(word) for name in _named(evse))]
    exact = [evse for evse in found if word in _named(evse)]
    return exact if len(exact) == 1 else found


def _named(evse: EvseView) -> tuple[str, str, str]:
    return evse.id.casefold(), evse.station.casefold(), vehicle_name(evse).casefold()
