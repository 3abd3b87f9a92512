"""What can be typed about the care of the books: `depot backup` and `depot restore`."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, lazy, socket_option


def offer(commands: Any) -> None:
    backup = command(
        commands,
        "backup",
        lazy("care", "backup"),
        "copy the books (sessions, alarms, audit) into a file, while the controller runs or not",
        "depot backup /media/usb/depot-2026-11-22.db",
    )
    backup.add_argument("copy", metavar="FILE", help="must not exist yet; the controller writes it")
    socket_option(backup)
    restore = command(
        commands,
        "restore",
        lazy("care", "restore"),
        "put a backup in the place of the books of a controller that does not run; what it replaces is kept",
        "depot restore /var/lib/depot/backups/depot-20261122T180000Z.db",
    )
    restore.add_argument("copy", metavar="FILE")
    for made in (backup, restore):
        where = made.add_mutually_exclusive_group()
        where.add_argument("--config", dest="file", metavar="FILE", help="the config, for its state folder")
        where.add_argument(
            "--storage", metavar="DIR", help="the state folder itself (default /var/lib/depot)"
        )
