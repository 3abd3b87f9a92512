"""Where the database is: a URL read into parameters of libpq.

Owns what may stand in the URL and how safe a connection must be. A password may not: it would show in the process list;
libpq finds it itself (PGPASSFILE, PGPASSWORD) or it is a credential of systemd. Nothing of the URL but host, port and database
is ever repeated in a message. Off this box the server has to show a certificate that is trusted, unless the URL says otherwise.
Source: PostgreSQL manual, chapter libpq, "Connection URIs" and "SSL Support".
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from drivers.errors import Misconfigured, WrongUse

FORM = "postgresql://user@host:5432/database"
CREDENTIAL = "postgresql-password"  # systemd: LoadCredential=postgresql-password:FILE
_SCHEMES = ("postgresql", "postgres")
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")  # Debian, Fedora
_OPTIONS = frozenset(
    {
        "host", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile", "options", "channel_binding",
        "target_session_attrs", "gssencmode", "krbsrvname", "ssl_min_protocol_version", "require_auth",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """`where` is for people and holds no secret; `parameters` are for libpq."""

    where: str
    parameters: dict[str, str]


def read(url: str) -> Address:
    """Raises Misconfigured; WrongUse for what is wrong in the URL itself."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        port = parts.port
    except ValueError:
        raise WrongUse(f"--to: not a URL like {FORM}") from None
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise WrongUse(f"--to: not a URL like {FORM}")
    if parts.password is not None or any(key == "password" for key, _ in query):
        raise WrongUse(
            "--to: a password in the URL shows in the process list; put it into PGPASSFILE (or PGPASSWORD)"
        )
    if unknown := sorted({key for key, _ in query} - _OPTIONS):
        raise WrongUse(f"--to: cannot set {unknown[0]!r}; known: {', '.join(sorted(_OPTIONS))}")
    named = {
        "host": parts.hostname or "",
        "port": "" if port is None else str(port),
        "user": unquote(parts.username or ""),
        "dbname": unquote(parts.path.lstrip("/")),
    }
    parameters = {key: value for key, value in (*named.items(), *query) if value}
    if "dbname" not in parameters:
        raise WrongUse(f"--to: names no database; a URL like {FORM}")
    if any("\0" in value for value in parameters.values()):
        raise WrongUse(f"--to: not a URL like {FORM}")
    host = parameters.setdefault("host", os.environ.get("PGHOST", "localhost"))
    if not _on_this_box(host) and "PGSSLMODE" not in os.environ:
        parameters.setdefault("sslmode", "verify-full")
    given = parameters.get("sslrootcert", os.environ.get("PGSSLROOTCERT", "system"))
    if parameters.get("sslmode") in ("verify-full", "verify-ca") and given == "system":
        parameters["sslrootcert"] = _trusted()
    return Address(f"{_shown(host, parameters.get('port'))}/{parameters['dbname']}", parameters)


def _trusted() -> str:
    """The file with the CAs that this box trusts. Not "system": the library brings an OpenSSL of its own, which looks where
    nothing is. Raises Misconfigured."""
    found = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    path = next((each for each in found if each and Path(each).is_file()), None)
    if path is None:
        raise Misconfigured(
            "--to: this box has no CA certificates: apt install ca-certificates, or ?sslrootcert=FILE"
        )
    return path


def _shown(host: str, port: str | None) -> str:
    if host.startswith("/"):
        return host
    return f"{f'[{host}]' if ':' in host else host}:{port or os.environ.get('PGPORT', '5432')}"


def _on_this_box(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def credential() -> str | None:
    """The password that systemd gave this process, if it did. Raises Misconfigured."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / CREDENTIAL if folder else None
    if path is None or not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(f"credential {CREDENTIAL}: cannot be read as text") from None
