"""The mishaps of a night: drawn from its seed, each with the moment it heals. All are over before the quiet begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from virtual_night import BUSY_S, Mishap, Night

from controller.core import events as ev
from controller.core.model import SITE, CircuitId, EvseId, MeterId, PerPhase

OPENING_S = 25  # the site fills first


def night_of(seed: int) -> tuple[Night, list[str]]:
    """The night, and what will happen in it, for people."""
    night = Night(seed)
    night.mishaps = sorted(_draw(night))
    return night, [f"{mishap.at} s: {mishap.told}" for mishap in night.mishaps]


def _draw(night: Night) -> list[Mishap]:
    chance = night.chance
    found = [
        Mishap(1 + chance.randrange(20), f"{evse} gets a vehicle", _comes(night, evse))
        for evse in night.plugs
        if chance.random() < 0.85
    ]
    for _ in range(chance.randint(3, 8)):
        begins = chance.randrange(OPENING_S, BUSY_S - 5)
        ends = min(BUSY_S, begins + chance.choice([3, 10, 30, 70, 100]))
        found += chance.choice(KINDS)(night, begins, ends)
    return found


def _comes(night: Night, evse: EvseId) -> Callable[[], None]:
    return lambda: None if night.plugs[evse].transaction else night.car_comes_or_goes(evse)


Drawn = Iterator[Mishap]


def _wire(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    wire = night.wires[evse]
    fate = night.chance.choice(["lost", "unheard", "refused", "half-open", "half-open"])

    def fall_ill(word: str) -> Callable[[], None]:
        def happen() -> None:
            wire.fate, wire.ill_s = word, night.now_s

        return happen

    yield Mishap(begins, f"{evse}: its answers are {fate}", fall_ill(fate))
    yield Mishap(ends, f"{evse}: its answers are heard", fall_ill(""))


def _slow(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    wire = night.wires[evse]
    usual_s = wire.delay_s

    def set_delay(delay_s: float) -> Callable[[], None]:
        def happen() -> None:
            wire.delay_s, wire.ill_s = delay_s, night.now_s

        return happen

    yield Mishap(begins, f"{evse} answers after 8 s", set_delay(8.0))
    yield Mishap(ends, f"{evse} answers as before", set_delay(usual_s))


def _link(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    plug, wire = night.plugs[evse], night.wires[evse]

    def down() -> None:
        wire.ill_s = night.now_s
        if night.down_until_s is None:
            night.link_down(plug)

    def up() -> None:
        wire.ill_s = night.now_s
        if night.down_until_s is None:
            night.link_up(plug)

    yield Mishap(begins, f"{evse} loses its link", down)
    yield Mishap(ends, f"{evse} has its link again", up)


def _stray(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    for at in range(begins, ends, 10):
        yield Mishap(at, f"{evse}: what was lost arrives", lambda: night.stray_arrives(night.plugs[evse]))


def _reboot(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    keeps = night.chance.random() < 0.5

    def happen() -> None:
        night.wires[evse].ill_s = night.now_s
        if night.down_until_s is None:
            night.reboot(night.plugs[evse], keeps)

    yield Mishap(begins, f"{evse} reboots and {'keeps' if keeps else 'forgets'} its limit", happen)


def _greedy(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    wire = night.wires[evse]
    over_ma, disobeys = night.chance.choice([(900, False), (1_500, False), (2_500, False), (0, True)])

    def behave(over: int, alone: bool) -> Callable[[], None]:
        def happen() -> None:
            wire.over_ma, wire.disobeys, wire.greedy_s = over, alone, night.now_s

        return happen

    what = "ignores its limits" if disobeys else f"draws {over_ma} mA too much"
    yield Mishap(begins, f"{evse} {what}", behave(over_ma, disobeys))
    yield Mishap(ends, f"{evse} behaves", behave(0, False))


def _mute(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    wire = night.wires[evse]

    def hush(silent: bool) -> Callable[[], None]:
        def happen() -> None:
            wire.silent, wire.greedy_s = silent, night.now_s

        return happen

    yield Mishap(begins, f"{evse} sends no samples", hush(True))
    yield Mishap(ends, f"{evse} sends samples", hush(False))


def _eye(night: Night, begins: int, ends: int) -> Drawn:
    if not night.eyes:
        return
    meter = night.chance.choice(list(night.eyes))
    eye, what = night.eyes[meter], night.chance.choice(["silent", "nonsense", "frozen", "spikes"])

    def set_ill(ill: bool) -> Callable[[], None]:
        def happen() -> None:
            eye.ill_s = night.now_s
            eye.silent, eye.nonsense = ill and what == "silent", ill and what == "nonsense"
            if what == "spikes":
                eye.spike_ma = 50_000 if ill else 0
            if what == "frozen":
                eye.shows_ma = PerPhase(*night.load_ma(_circuit_of(night, meter))) if ill else None
                eye.frozen_s = night.now_s

        return happen

    yield Mishap(begins, f"{meter}: {what}", set_ill(True))
    yield Mishap(ends, f"{meter}: well", set_ill(False))


def _circuit_of(night: Night, meter: MeterId) -> CircuitId:
    return next(circuit.id for circuit in night.site.circuits.values() if circuit.meter == meter)


def _building(night: Night, begins: int, ends: int) -> Drawn:
    yield Mishap(begins, "the building steps up", lambda: night.building_moves(1.0))
    yield Mishap(ends, "the building steps down", lambda: night.building_moves(0.0))


def _told(night: Night, make: Callable[[], ev.Event]) -> Callable[[], None]:
    return lambda: None if night.down_until_s is not None else (night.tell(make()), None)[1]


def _operator(night: Night, begins: int, ends: int) -> Drawn:
    evse = night.chance.choice(list(night.plugs))
    limit_ma = night.chance.choice([0, 6_000, 10_000])
    words: list[tuple[str, Callable[[], ev.Event], Callable[[], ev.Event]]] = [
        (
            "pauses",
            lambda: ev.PauseWished(f"p{night.second}", "ann", evse),
            lambda: ev.ResumeWished(f"r{night.second}", "ann", evse),
        ),
        (
            "limits",
            lambda: ev.LimitWished(f"l{night.second}", "ann", evse, limit_ma),
            lambda: ev.LimitWished(f"l{night.second}", "ann", evse, None),
        ),
        (
            "stops",
            lambda: ev.StopWished(f"s{night.second}", "ann", evse),
            lambda: ev.StartWished(f"t{night.second}", "ann", evse),
        ),
    ]
    word, first, second = night.chance.choice(words)
    yield Mishap(begins, f"ann {word} {evse}", _told(night, first))
    yield Mishap(ends, f"ann lifts that of {evse}", _told(night, second))


def _flex(night: Night, begins: int, ends: int) -> Drawn:
    percent = night.chance.choice([0, 30, 60])
    wished = f"f{begins}"
    yield Mishap(
        begins,
        f"the grid operator leaves {percent} %",
        _told(night, lambda: ev.FlexWished(wished, "grid", SITE, percent, float(ends - begins))),
    )


def _dies(night: Night, begins: int, ends: int) -> Drawn:
    seconds = night.chance.choice([2.0, 5.0, 20.0])

    def happen() -> None:
        if night.down_until_s is None:
            night.dies(seconds)

    yield Mishap(min(begins, BUSY_S - 60), f"the controller is away for {seconds:.0f} s", happen)


def _clock(night: Night, begins: int, ends: int) -> Drawn:
    def trust(trusted: bool) -> Callable[[], None]:
        return lambda: setattr(night, "trusted", trusted)

    yield Mishap(begins, "the clock is not trusted", trust(False))
    yield Mishap(ends, "the clock is trusted", trust(True))


Kind = Callable[[Night, int, int], Drawn]
KINDS: tuple[Kind, ...] = (
    *(_wire, _wire, _wire, _slow, _link, _link, _stray, _reboot, _greedy, _greedy, _mute),
    *(_eye, _eye, _eye, _building, _building, _operator, _operator, _flex, _dies, _clock),
)
