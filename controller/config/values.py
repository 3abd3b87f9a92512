"""Readers of single values: one TOML value in, one typed value out, or `Wrong`.

Owns what a current, a phase list, an address or an id looks like in the file, and how to say it when it does
not (files and secrets: `files`). Knows no keys. Sources: INTERFACE section 3; units in `controller.core.units`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from controller.core import units
from controller.core.model import PerPhase, each_phase

# Larger than the connection of any depot this controls; "6300 A" is a slipped finger for 630 A.
HIGHEST_CURRENT_MA = 2_000_000

IN_WATTS = re.compile(r".*[0-9]\s*[kM]?W\s*", re.DOTALL)  # a text that means to be a power
_PERCENT = re.compile(r"(\d{1,3}) ?%")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,48}")
_GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_LISTEN = re.compile(r"(?P<host>[A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class Wrong(Exception):
    """A value that cannot be used: what is wrong, and what to write instead."""

    def __init__(self, text: str, suggestion: str) -> None:
        super().__init__(text)
        self.text = text
        self.suggestion = suggestion


def quoted(text: str) -> str:
    """The text as it stands in the file, in quotes, cut to a readable length."""
    return f'"{text}"' if len(text) <= 60 else f'"{text[:60]}..."'


def shown(value: object) -> str:
    """A TOML value in a message; never long, never failing (a huge integer has no decimal text in Python)."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int():
            return str(value) if abs(value) < 10**15 else "a huge number"
        case float():
            return str(value)
        case dict():
            return "a table"
        case list():
            return "a list"
    return "a date or time"


def in_amps(milli: int) -> str:
    """16000 as "16 A"; what it prints can be written in the file again."""
    return f"{milli / 1e3:.3f}".rstrip("0").rstrip(".") + " A"


def in_kw(watts: int) -> str:
    return f"{watts / 1e3:.3f}".rstrip("0").rstrip(".") + " kW"


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean "row_a"?` when something known looks like `word`, else the given advice."""
    close = difflib.get_close_matches(word[:80], list(known), n=1)
    return f"did you mean {quoted(close[0])}?" if close else otherwise


# --- words -------------------------------------------------------------------------------------------------


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is not a text", "put it in quotes")
    if not value.strip():
        raise Wrong("is empty", "fill it in")
    if not value.isprintable():
        raise Wrong("contains an invisible character", "type it again by hand")
    return value.strip()


def texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Wrong(f"{shown(value)} is not a list of texts", 'write it like ["one", "two"]')
    return tuple(text(item) for item in value)


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{shown(value)} is neither true nor false", "write true or false, without quotes")
    return value


def one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        word = text(value)
        if word not in choices:
            raise Wrong(f"{quoted(word)} is not known here", nearest(word, choices, _choose(choices)))
        return word

    return read


def one_or_more_of(known: Sequence[str], kind: str, example: str) -> Callable[[object], frozenset[str]]:
    def read(value: object) -> frozenset[str]:
        words = texts(value)
        if not words:
            raise Wrong("an empty list allows nothing", f"list what is agreed to, like {example}")
        for word in words:
            if word not in known:
                advice = nearest(word, known, f"known {kind}s: {', '.join(known)}")
                raise Wrong(f"{quoted(word)} is not a {kind}", advice)
        return frozenset(words)

    return read


def _choose(choices: Iterable[str]) -> str:
    return "choose one of " + ", ".join(quoted(choice) for choice in choices)


def identifier(value: object) -> str:
    word = text(value)
    if not _ID.fullmatch(word):
        raise Wrong(f"{quoted(word)} is not an id", "use 1 to 48 of the characters A-Z a-z 0-9 _ . : -")
    return word


def group(value: object) -> str:
    """The name of a user group (useradd(8)); whether it exists is seen when somebody comes."""
    word = text(value)
    if not _GROUP.fullmatch(word):
        raise Wrong(f"{quoted(word)} is not the name of a group", 'write it like "depot-operators"')
    return word


# --- quantities --------------------------------------------------------------------------------------------


def current_ma(value: object) -> int:
    """A limit: fractions of a mA round down."""
    return _current_ma(value, units.parse_current_ma)


def load_ma(value: object) -> int:
    """A load: fractions of a mA round up."""
    return _current_ma(value, lambda written: -units.parse_current_ma(f"-{written.strip().lstrip('+')}"))


def positive_current_ma(value: object) -> int:
    milli = current_ma(value)
    if milli == 0:
        raise Wrong(f"{shown(value)} feeds nothing", 'write a current above "0 A"')
    return milli


def voltage_mv(value: object) -> int:
    milli = int(_quantity(value, units.parse_voltage_mv, "a voltage", "230 V"))
    if not 90_000 <= milli <= 350_000:
        raise Wrong(
            f"{shown(value)} is not a phase-to-neutral voltage of a supply",
            'give the voltage to neutral: "230 V" where there are 400 V between the phases',
        )
    return milli


def power_w(value: object) -> int:
    return _above_zero(power_or_none_w(value), value)


def power_or_none_w(value: object) -> int:
    """ "0 kW" is a power too."""
    return int(_quantity(value, units.parse_power_w, "a power", "22 kW"))


def energy_wh(value: object) -> int:
    return _above_zero(int(_quantity(value, units.parse_energy_wh, "an energy", "94 kWh")), value)


def percent(value: object) -> int:
    """ "60 %" of a battery."""
    match = _PERCENT.fullmatch(text(value))
    if match is None or int(match[1]) > 99:
        raise Wrong(f"{shown(value)} is not a state of charge", 'write "0 %" to "99 %"')
    return int(match[1])


def duration_s(shortest_s: float, longest_s: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        seconds = _quantity(value, units.parse_duration_s, "a duration", "5 s")
        if not shortest_s <= seconds <= longest_s:
            raise Wrong(
                f"{shown(value)} is not between {shortest_s:g} s and {longest_s:g} s",
                f'write it like "{longest_s:g} s" or less'
                if seconds > longest_s
                else f'write "{shortest_s:g} s" or more',
            )
        return seconds

    return read


def ratio(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100_000:
        raise Wrong(
            f"{shown(value)} is not a ratio", "write a number above 0, like 60 for a 300/5 transformer"
        )
    return float(value)


def phases(value: object) -> tuple[int, ...]:
    """ "L2 L3 L1" as (1, 2, 0)."""
    names = text(value).split()
    if not set(names) <= {"L1", "L2", "L3"} or len(set(names)) != len(names):
        raise Wrong(
            f"{shown(value)} is not a list of phases",
            'write the grid phase of each conductor, like "L1 L2 L3", "L2 L3 L1" or "L1"',
        )
    return tuple(int(name[1]) - 1 for name in names)


def per_phase(read: Callable[[object], int]) -> Callable[[object], PerPhase[int]]:
    """A single quantity for all phases, or a list of exactly three."""

    def of(value: object) -> PerPhase[int]:
        if not isinstance(value, list):
            return each_phase(read(value))
        if len(value) != 3:
            raise Wrong(
                f"a list for the phases has 3 currents, this one has {len(value)}",
                'write it like ["100 A", "100 A", "80 A"], or one text for all phases',
            )
        return PerPhase(*(read(item) for item in value))

    return of


def _current_ma(value: object, parse: Callable[[str], int]) -> int:
    milli = int(_quantity(value, parse, "a current", "16 A"))
    if milli > HIGHEST_CURRENT_MA:
        slips = [milli // power for power in (10, 100) if milli % (power * 1000) == 0]
        slips = [slip for slip in slips if slip <= HIGHEST_CURRENT_MA]
        meant = " or ".join(f'"{in_amps(slip)}"' for slip in slips)
        raise Wrong(
            f"{shown(value)} is above {in_amps(HIGHEST_CURRENT_MA)}, no depot has that fuse",
            f"did you mean {meant}?" if meant else "check the number and its unit",
        )
    return milli


def _quantity(value: object, parse: Callable[[str], float], kind: str, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Wrong(f"{shown(value)} is not {kind}", f'write it like "{example}"')
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} has no unit", f'write it with its unit, like "{example}"')
    if len(value) > 60 or not value.isprintable():
        raise Wrong(f"{quoted(value)} is not {kind}", f'write it like "{example}"')
    try:
        number = parse(value)
    except (ValueError, OverflowError) as error:
        said, _, advice = str(error).rpartition("; ")
        raise Wrong(
            said or f"{quoted(value)} is not {kind}", advice or f'write it like "{example}"'
        ) from None
    if number < 0:
        raise Wrong(f"{quoted(value)} is negative", "write it without the minus sign")
    return number


def _above_zero(number: int, value: object) -> int:
    if number == 0:
        raise Wrong(f"{shown(value)} is zero", "leave the key out when it is not known")
    return number


# --- addresses ---------------------------------------------------------------------------------------------


def listen(value: object) -> tuple[str, int]:
    """ "0.0.0.0:8887" or ":8887" (all addresses)."""
    match = _LISTEN.fullmatch(text(value))
    if match is None or int(match["port"]) > 65535:
        raise Wrong(f"{shown(value)} is not an address to listen on", 'write "0.0.0.0:8887" or ":8887"')
    return match["host"].strip("[]") or "0.0.0.0", int(match["port"])


def base_url(value: object) -> str:
    """An https address without a slash at the end; http only on this machine (a simulator)."""
    written = text(value)
    advice = 'write it like "https://platform.example/v1"'
    try:
        parts = urlsplit(written)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Wrong(f"{quoted(written)} is not a web address", advice) from None
    if parts.scheme not in ("http", "https") or not host or " " in written:
        raise Wrong(f"{quoted(written)} is not a web address", advice)
    if parts.username is not None or parts.query or parts.fragment:
        raise Wrong("a base address has no user, no ? and no #", advice)
    if parts.scheme == "http" and not is_loopback(host):
        raise Wrong("http would send the secret unencrypted", f'write "https://{host}..."')
    return written.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
