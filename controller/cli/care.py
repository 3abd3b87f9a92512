"""`depot backup` and `depot restore`: copies of the books."""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from pathlib import Path

from controller.backup import copy_offline, fetch
from controller.backup import restore as put_back
from controller.cli.looks import ask
from controller.config import DEFAULT_STORAGE, load
from controller.migrations import LedgerError
from ui.client import CallRefused, NotReachable


def backup(options: argparse.Namespace) -> int:
    """The controller is asked first; only where none answers the file is opened here."""
    copy = Path(options.copy).absolute()
    folder = _folder(options)
    try:
        try:
            size = fetch(Path(ask(options, "backup")["file"]), copy)
        except NotReachable as error:
            offline = copy_offline(folder, copy)
            if offline is None:
                raise LedgerError(f"{folder}: in use by a controller that does not answer: {error}") from None
            size = offline
    except LedgerError as wrong:
        raise CallRefused("failed", str(wrong)) from None
    print(f"{copy}: {size / 1e6:.1f} MB, read back and found whole")
    return 0


def restore(options: argparse.Namespace) -> int:
    try:
        done = put_back(_folder(options), Path(options.copy).absolute(), getpass.getuser(), datetime.now(UTC))
    except LedgerError as error:
        raise CallRefused("failed", str(error)) from None
    for line in done:
        print(line)
    return 0


def _folder(options: argparse.Namespace) -> Path:
    if options.file is None:
        return Path(options.storage or DEFAULT_STORAGE)
    config = load(Path(options.file))
    options.socket = getattr(options, "socket", None) or str(config.control_socket)
    return config.storage_path
