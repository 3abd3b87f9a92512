"""The small certificate authority of a site: one root key, certificates for this box and for its stations.

Owns the folder `ca` in the storage folder: `ca.pem`, `ca.key` (mode 0600), and `issued.jsonl`, a list that only grows: one
line per certificate and one per revocation, so the controller and `depot ca` may both write. ECDSA P-256 throughout. What
it signs for a station carries the identity that the caller vouches for, and nothing else the request asks for. Must not
know who asked or over which wire. Source: OCPP 1.6 security whitepaper section 2.6 and 4, OCPP 2.0.1 part 2 A00 (key
lengths) and A02; RFC 5280 for the profile of certificates.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers.errors import Misconfigured, Refused, WrongUse
from drivers.ocpp.keys import replace_file

FOLDER = "ca"
CA_FOR = timedelta(days=365 * 20)  # a root that stations were given by hand outlives them
SERVER_FOR = timedelta(days=825)
STATION_FOR = timedelta(days=825)
_BACKDATED = timedelta(days=1)  # stations whose clock is behind must not refuse what is new
_MOST_REQUEST = 5_500  # characters; SignCertificate.csr
_RSA_BITS = (2048, 4096)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Issued:
    """`kind`: server or station. `serial` in hex, as people compare it."""

    serial: str
    kind: str
    name: str
    until: datetime
    revoked: datetime | None = None


class Authority:
    """Raises Misconfigured for files that cannot be used, Refused for requests it does not sign."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate_file = folder / "ca.pem"
        self._key_file = folder / "ca.key"
        self._list = folder / "issued.jsonl"
        self._seen: tuple[int, int] | None = None
        self._issued: dict[str, Issued] = {}

    @property
    def can_sign(self) -> bool:
        """Whether its key lies here; it may be kept elsewhere, and then nothing is signed without a person."""
        return os.access(self._key_file, os.R_OK)

    def create(self, site: str, now: datetime) -> None:
        """Makes key and certificate. Never replaces a key: that would shut every station out."""
        if self._key_file.exists() or self.certificate_file.exists():
            raise Refused(f"{self._folder} holds an authority already; move it away to begin a new one")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{site} depot CA"[:64])])
        builder = (
            _blank(name, name, key.public_key(), now, CA_FOR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.geteuid() == 0:
                owner = self._folder.parent.stat()
                os.chown(self._folder, owner.st_uid, owner.st_gid)
            replace_file(self._key_file, key_pem(key))
            replace_file(self.certificate_file, certificate_pem(certificate), 0o644)
        except OSError as error:
            raise Misconfigured(f"{self._folder}: {error.strerror or error}") from None

    def issue_server(self, names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
        """Certificate (with ours behind it) and key for this box. `names`: what stations may call it, the first counts
        most; addresses are told from host names by their form."""
        key = ec.generate_private_key(ec.SECP256R1())
        known = x509.SubjectAlternativeName([_general(name) for name in names])
        made = self._issue("server", names[0], key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, known, now)
        return made, key_pem(key)

    def issue_station(self, station: str, now: datetime) -> tuple[bytes, bytes]:
        """Certificate (with ours behind it) and key for a station that cannot make its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._issue("station", station, key.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH, None, now)
        return made, key_pem(key)

    def sign(self, request_pem: str, station: str, now: datetime) -> bytes:
        """The certificate for a station's own key, with ours behind it. The request must bear the station's identity
        as its common name and be signed with the key it asks for."""
        request = _read_request(request_pem)
        asked = [str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if asked != [station]:
            raise Refused(
                f"the request is for {', '.join(map(repr, asked)) or 'nobody'}, not for {station!r}"
            )
        return self._issue("station", station, _good_key(request), ExtendedKeyUsageOID.CLIENT_AUTH, None, now)

    def revoke(self, name_or_serial: str, now: datetime) -> tuple[Issued, ...]:
        """Voids one certificate by serial, or every valid one that bears a name. They are refused from the next
        connection on."""
        wanted = name_or_serial.casefold()
        found = tuple(
            each
            for each in self.issued()
            if each.revoked is None and (each.serial == wanted or each.name == name_or_serial)
        )
        if not found:
            raise Refused(f"no valid certificate is called {name_or_serial!r}; `depot ca list` shows them")
        for each in found:
            self._append({"revoked": each.serial, "at": now.isoformat()})
        return found

    def issued(self) -> tuple[Issued, ...]:
        """Everything ever issued, oldest first. Cheap while the list does not change."""
        try:
            status = self._list.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._issued = dict(_entries(self._list.read_text(encoding="utf-8").splitlines()))
                self._seen = seen
        except FileNotFoundError:
            self._issued = {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Misconfigured(f"{self._list} cannot be read: {error}") from None
        return tuple(self._issued.values())

    def is_revoked(self, serial: str) -> bool:
        self.issued()
        known = self._issued.get(serial.casefold().lstrip("0"))
        return known is not None and known.revoked is not None

    def _issue(
        self,
        kind: str,
        name: str,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
        now: datetime,
    ) -> bytes:
        root, root_key = self._root()
        lasts = min(SERVER_FOR if kind == "server" else STATION_FOR, root.not_valid_after_utc - now)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        builder = (
            _blank(subject, root.subject, key, now, lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(root_key, hashes.SHA256())
        self._append(
            {
                "serial": f"{certificate.serial_number:x}",
                "kind": kind,
                "name": name,
                "until": certificate.not_valid_after_utc.isoformat(),
            }
        )
        return certificate_pem(certificate) + certificate_pem(root)

    def _root(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            root = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        except FileNotFoundError:
            raise Misconfigured(f"{self._folder} holds no authority; run `depot ca init`") from None
        except OSError as error:
            raise Misconfigured(f"{self._key_file}: {error.strerror or error}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Misconfigured(f"{self._folder}: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
            raise Misconfigured(f"{self._key_file} is not the key of {self.certificate_file}")
        return root, key

    def _append(self, entry: dict[str, str]) -> None:
        """In one write, so that two processes never mix their lines; on the disk before a certificate leaves."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            handle = os.open(self._list, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.geteuid() == 0:
                    owner = self._folder.stat()
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise Misconfigured(f"{self._list}: {error.strerror or error}") from None


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def valid_until(path: Path) -> datetime:
    """When the first certificate in the file that ends, ends: a chain is as good as its weakest link."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Misconfigured(f"{path} holds no certificate: {error}") from None
    return min(each.not_valid_after_utc for each in found)


def has_rsa_key(path: Path) -> bool:
    """Of the first certificate in a file that was read before."""
    return isinstance(x509.load_pem_x509_certificates(path.read_bytes())[0].public_key(), rsa.RSAPublicKey)


def _entries(lines: Iterable[str]) -> Iterable[tuple[str, Issued]]:
    """A line that was cut off by a power loss is the last one, and its certificate never left."""
    known: dict[str, Issued] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "revoked" in entry:
            old = known.get(entry["revoked"])
            if old is not None:
                at = datetime.fromisoformat(entry["at"])
                known[old.serial] = Issued(old.serial, old.kind, old.name, old.until, at)
        else:
            until = datetime.fromisoformat(entry["until"])
            known[entry["serial"]] = Issued(entry["serial"], entry["kind"], entry["name"], until)
    return known.items()


def _read_request(pem: str) -> x509.CertificateSigningRequest:
    if len(pem) > _MOST_REQUEST:
        raise Refused(f"the request is longer than {_MOST_REQUEST} characters")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        sound = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Refused(f"not a certificate signing request in PEM: {error}"[:200]) from None
    if not sound:
        raise Refused("the request is not signed with the key it asks for")
    return request


def _good_key(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    try:
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused(f"the key in the request cannot be read: {error}"[:200]) from None
    least, most = _RSA_BITS
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return key
        case rsa.RSAPublicKey() if least <= key.key_size <= most:
            return key
        case _:
            size = getattr(key, "key_size", None)
            text = f"{type(key).__name__.strip('_')}{f' of {size} bits' if size else ''}"
            raise Refused(f"the key in the request is a {text}; EC P-256 or RSA from {least} bits is needed")


def _blank(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    now: datetime,
    lasts: timedelta,
) -> x509.CertificateBuilder:
    whole = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(whole - _BACKDATED)
        .not_valid_after(whole + lasts)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise WrongUse(f"{name!r} is neither an address nor a host name") from None
