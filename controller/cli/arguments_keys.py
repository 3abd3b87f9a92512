"""What can be typed about keys: the small certificate authority of the site, and the passwords of stations."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option

_STORAGE = "/var/lib/depot"


def offer(commands: Any) -> None:
    """Adds the commands of this group."""
    _authority(commands)
    password = command(
        commands,
        "station-password",
        lazy("ca", "station_password"),
        "give a connected station a new password; the old one ends when the station has come with it",
        "depot station-password CP001",
    )
    password.add_argument("station", help="its id in the config, like CP001")
    password.add_argument(
        "--forget",
        action="store_true",
        help="back to the password of the config, for a station that was set back by hand",
    )
    certificate = command(
        commands,
        "station-certificate",
        lazy("ca", "station_certificate"),
        "have a connected station make a key and fetch a certificate for it from this site's authority",
        "depot station-certificate CP001",
    )
    certificate.add_argument("station", help="its id in the config, like CP001")
    for made in (password, certificate):
        socket_option(made)


def _authority(commands: Any) -> None:
    kinds = commands.add_parser(
        "ca", help="the certificate authority of this site: for wss:// and for stations with certificates"
    ).add_subparsers(metavar="WHAT", required=True)
    init = command(
        kinds, "init", lazy("ca", "init"), "begin an authority", 'depot ca init --site "Depot Noord"'
    )
    init.add_argument("--site", default="Charging", metavar="NAME", help="whose it is, for people")
    issue = command(
        kinds,
        "issue",
        lazy("ca", "issue"),
        "issue key and certificate for this box (server) or for a station that cannot make its own",
        "depot ca issue server --name depot.local --name 10.0.4.2",
    )
    issue.add_argument("subject", metavar="server|STATION", help="server for this box, or a station's id")
    issue.add_argument(
        "--name",
        dest="names",
        action="append",
        metavar="HOST",
        help="what stations call this box; may be given more than once (default: its host name and addresses)",
    )
    issue.add_argument("--out", default=".", metavar="DIR", help="where the two files go (default: here)")
    sign = command(
        kinds,
        "sign",
        lazy("ca", "sign"),
        "sign the request of a station; the certificate goes to standard output",
        "depot ca sign CP001 CP001.csr > CP001.pem",
    )
    sign.add_argument("station", help="whom the certificate will name")
    sign.add_argument("file", help="its request, in PEM")
    shown = command(kinds, "list", lazy("ca", "shown"), "the certificates and when they end", "depot ca list")
    json_option(shown)
    revoke = command(
        kinds,
        "revoke",
        lazy("ca", "revoke"),
        "void a certificate, or all of a station, from the next connection on",
        "depot ca revoke CP001",
    )
    revoke.add_argument("which", metavar="NAME|SERIAL", help="as `depot ca list` shows them")
    for made in (init, issue, sign, shown, revoke):
        made.add_argument(
            "--storage",
            default=_STORAGE,
            metavar="DIR",
            help=f"[storage] path of the config (default {_STORAGE})",
        )
