"""Commands about keys: the site's certificate authority (on its files), a station's password (through the controller)."""

from __future__ import annotations

import argparse
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from controller.cli.looks import _print_json, ask, table
from controller.core.wire import instant_text
from drivers.errors import Misconfigured, WrongUse
from drivers.ocpp.ca import FOLDER, Authority, Issued
from drivers.ocpp.door import identity_of
from drivers.ocpp.keys import replace_file


def init(options: argparse.Namespace) -> int:
    authority = _authority(options)
    authority.create(options.site, datetime.now(UTC))
    print(f"{authority.certificate_file}: install it in every station that connects with wss://")
    print("next: depot ca issue server; then tls_listen, tls_cert, tls_key and client_ca under [ocpp]")
    return 0


def issue(options: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    if options.subject == "server":
        names = options.names or _own_names()
        chain, key = _authority(options).issue_server(names, now)
        print(f"for {', '.join(names)}")
    else:
        _station(options.subject)
        if options.names:
            raise WrongUse("--name is for the server; a station's certificate bears its identity")
        chain, key = _authority(options).issue_station(options.subject, now)
    for suffix, content, mode in ((".pem", chain, 0o644), (".key", key, 0o600)):
        # an identity may hold colons, which some file systems and most scripts do not like
        path = Path(options.out) / (options.subject.replace(":", "_") + suffix)
        try:
            replace_file(path, content, mode)
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror or error}") from None
        print(path)
    return 0


def sign(options: argparse.Namespace) -> int:
    _station(options.station)
    try:
        request = Path(options.file).read_text(encoding="ascii")
    except OSError as error:
        raise Misconfigured(f"{options.file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Misconfigured(f"{options.file} is not a request in PEM") from None
    sys.stdout.write(_authority(options).sign(request, options.station, datetime.now(UTC)).decode())
    return 0


def shown(options: argparse.Namespace) -> int:
    issued = _authority(options).issued()
    if options.json:
        return _print_json([_plain(each) for each in issued])
    now = datetime.now(UTC)
    rows = [
        (each.name, each.kind, f"{each.until:%Y-%m-%d}", _state(each, now), each.serial) for each in issued
    ]
    table(("NAME", "KIND", "UNTIL", "STATE", "SERIAL"), rows)
    return 0


def revoke(options: argparse.Namespace) -> int:
    for each in _authority(options).revoke(options.which, datetime.now(UTC)):
        print(f"revoked: {each.name}, serial {each.serial}; refused from its next connection on")
    return 0


def station_password(options: argparse.Namespace) -> int:
    answer = ask(options, "station-password", station=options.station, forget=options.forget)
    if options.forget:
        print(f"{options.station}: the password of the config opens again, and no other")
    else:
        print(f"{options.station} took its new password ({answer['said']}); it counts once it came with it")
    return 0


def station_certificate(options: argparse.Namespace) -> int:
    ask(options, "station-certificate", station=options.station)
    print(f"{options.station} will ask for a certificate; `depot ca list` shows it once it is signed")
    return 0


def _authority(options: argparse.Namespace) -> Authority:
    return Authority(Path(options.storage) / FOLDER)


def _station(name: str) -> None:
    if identity_of(f"/{name}") != name:
        raise WrongUse(f'"{name}" is not an identity: 1 to 48 of the signs A-Z a-z 0-9 _ . : -')


def _own_names() -> list[str]:
    """The host name first, then every address under which somebody might reach this box."""
    host = socket.gethostname()
    names = dict.fromkeys((host, socket.getfqdn()))
    with suppress(OSError):
        names |= dict.fromkeys(str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(host, None))
    # connecting a UDP socket sends nothing; it shows which of our addresses leads out
    for family, beyond in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))
            names[str(probe.getsockname()[0])] = None
    return [*names, *(name for name in ("localhost", "127.0.0.1") if name not in names)]


def _state(each: Issued, now: datetime) -> str:
    if each.revoked is not None:
        return f"revoked {each.revoked:%Y-%m-%d}"
    return "expired" if each.until <= now else "valid"


def _plain(each: Issued) -> dict[str, str | None]:
    return {
        "name": each.name,
        "kind": each.kind,
        "serial": each.serial,
        "until": instant_text(each.until),
        "revoked": None if each.revoked is None else instant_text(each.revoked),
    }
