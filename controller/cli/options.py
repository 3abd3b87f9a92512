"""The pieces of which commands are made: how one is named, run and explained, and how a typed value is read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from controller.core.units import parse_current_ma, parse_duration_s, parse_energy_wh, parse_power_w


def lazy(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    """Imports a command when it runs: `depot status` must not wait for the dashboard's library to load."""

    def run(options: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"controller.cli.{module}"), function)(options)
        return code

    return run


class _Help(argparse.HelpFormatter):
    """An example of two lines is still one command when it is copied into a shell."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = super()._fill_text(text, width, indent)
        return filled.replace("\n", " \\\n  ") if text.startswith("Example: ") else filled


def command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"Example: {example}",
        formatter_class=_Help,
    )
    made.set_defaults(run=run, parser=made)
    return made


def socket_option(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--socket", metavar="PATH", help="control socket (default: $DEPOT_SOCKET or /run/depot/control.sock)"
    )


def json_option(made: argparse._ActionsContainer) -> None:
    made.add_argument("--json", action="store_true", help="one JSON document instead of a table")


def preview_option(made: argparse.ArgumentParser) -> None:
    made.add_argument("--preview", action="store_true", help="do nothing; tell what it would bring")


# --- values -----------------------------------------------------------------------------------------------------


def _with_unit(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except OverflowError:
            raise argparse.ArgumentTypeError(f'"{text}" is too large') from None
        if value < 0:
            raise argparse.ArgumentTypeError(f'"{text}" is below zero')
        return value

    return convert


current = _with_unit(parse_current_ma)
energy = _with_unit(parse_energy_wh)
power = _with_unit(parse_power_w)
duration = _with_unit(lambda text: int(parse_duration_s(text)))


def span(text: str) -> int:
    seconds: int = duration(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is shorter than a second')
    return seconds


def current_or_none(text: str) -> int | None:
    return None if text == "none" else current(text)


def percent(text: str) -> int:
    if not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 0 to 100')
    return int(text)


def chargers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to 50')
    return int(text)


def days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 31:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to 31')
    return int(text)


def speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1.0 <= speed <= 1000.0:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 1 to 1000')
    return speed
