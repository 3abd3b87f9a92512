"""Command line: one module per group of commands. This one reads the arguments and turns errors into one line.

Exit codes (INTERFACE section 2): 0 done, 1 refused or failed, 2 wrong use, 3 controller not reachable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from controller.cli.arguments import parser
from drivers.errors import DriverError, WrongUse
from ui.client import CallRefused, NotReachable

DONE, FAILED, WRONG_USE, NOT_REACHABLE = 0, 1, 2, 3
_WRONG = ("bad-request", "bad-time", "bad-month", "bad-json")  # arguments that no controller could take


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Bad input never shows a traceback."""
    try:
        code = _run(arguments)
    except NotReachable as error:
        return _fail(f"{error}; is `depot run` running, and is --socket right?", NOT_REACHABLE)
    except CallRefused as error:
        return _fail(str(error), WRONG_USE if error.code in _WRONG else FAILED)
    except DriverError as error:
        return _fail(str(error), WRONG_USE if isinstance(error, WrongUse) else FAILED)
    except BrokenPipeError:
        # the reader of our output (head, less) has seen enough; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return FAILED
    except SystemExit:  # help was asked for, or its use was wrong: nothing to look up
        raise
    except _config_errors() as error:  # looked up only when something went wrong
        return _fail(str(error), FAILED)
    return code


def _config_errors() -> type[Exception]:
    """The reader of the config takes a third of a second to load; most commands never open one."""
    from controller.config import ConfigError

    return ConfigError


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options, unknown = parser().parse_known_args(arguments)
        if unknown and "parser" in options:  # its usage is of more help than that of all commands
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        code: int = options.run(options)
        return code
    finally:
        sys.stdout.flush()  # a reader that is gone must show here, not while the interpreter ends


def _fail(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"depot: {line}", file=sys.stderr)
    return code
