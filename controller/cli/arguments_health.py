"""What can be typed about the health of the installation: `depot doctor` and `depot support-bundle`."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option

CONFIG = "/etc/depot/depot.toml"


def offer(commands: Any) -> None:
    doctor = command(
        commands,
        "doctor",
        lazy("doctor", "doctor"),
        "whether box, controller, meters and stations are fit, and what to do where they are not",
        "depot doctor /etc/depot/depot.toml --json",
    )
    doctor.add_argument("file", nargs="?", default=CONFIG, help="the config (default: %(default)s)")
    json_option(doctor)
    socket_option(doctor)
    bundle = command(
        commands,
        "support-bundle",
        lazy("bundle", "support_bundle"),
        "one file for whoever helps: config, checks, alarms, log and versions, without secrets and id tokens",
        "depot support-bundle depot-noord.zip",
    )
    bundle.add_argument("file", nargs="?", metavar="FILE", help="the .zip to write")
    bundle.add_argument("--config", default=CONFIG, metavar="FILE", help="default: %(default)s")
    bundle.add_argument("--preview", action="store_true", help="list what would be in it and write nothing")
    socket_option(bundle)
