"""What a refusal at the OCPP door means and what to do about it, in plain words.

Owns the words only: the reasons are those of `drivers.ocpp.door` and `drivers.ocpp.tls`, recognised by how they begin; one
that is not known is shown as it is. Source: field notes section 1.4 rows 2-12 and section 2 rows 49-53.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`starts`: of the reason, without the name of TLS before it."""

    starts: str
    what: str
    do: str


DIAGNOSES = (
    Diagnosis(
        "no station identity in the path",
        "the address ends wrong: there must be one name after /ocpp/",
        "type the URL above exactly; many chargers append their identity themselves, then type it without",
    ),
    Diagnosis(
        "unknown identity",
        "it calls itself by a name that is not in the config",
        "set its identity (charge point id) to the name in the config, or add [station.NAME] there and restart",
    ),
    Diagnosis(
        "wrong user name",
        "its user name is not its identity, or what it sends is not Basic authentication",
        "set the user name to exactly its identity; most chargers do that when the field is left empty",
    ),
    Diagnosis(
        "wrong password",
        "the password is not the one of this station",
        "type the password again, without a space or line end; look at the keyboard's language on its display",
    ),
    Diagnosis(
        "no password given",
        "it sends no password at all",
        "choose security profile 1 (or Basic authentication) in the charger and type the password; some need a restart",
    ),
    Diagnosis(
        "no password is configured for it",
        "the config has no password for it",
        "write password_file for it in the config and restart the controller",
    ),
    Diagnosis(
        "subprotocol",
        "it does not name a version of OCPP that is spoken here (header Sec-WebSocket-Protocol)",
        "choose OCPP 1.6 JSON (not SOAP) in the charger, or update its firmware; a version pinned in the config counts too",
    ),
    Diagnosis(
        "no Upgrade header",
        "it asks for a page instead of a WebSocket: old firmware, a browser, or a proxy that drops the header",
        "update its firmware; connect it without a proxy in between",
    ),
    Diagnosis(
        "speaks TLS to the plain port",
        "the address says wss:// but the port is the one without TLS",
        "type ws:// with this port, or wss:// with the TLS port",
    ),
    Diagnosis(
        "speaks without TLS to the TLS port",
        "the address says ws:// (or http://) but the port is the one with TLS",
        "type wss:// with this port, or ws:// with the plain port",
    ),
    Diagnosis(
        "does not trust our certificate",
        "it does not know who signed our certificate",
        "upload our ca.pem to it (depot ca init shows where it lies) and restart it",
    ),
    Diagnosis(
        "left during the TLS handshake",
        "it left while TLS began, most likely because it does not trust our certificate",
        "upload our ca.pem to it (depot ca init shows where it lies) and restart it",
    ),
    Diagnosis(
        "does not accept our certificate",
        "our certificate is made out to another address, or its clock is wrong",
        "depot ca issue server --name ADDRESS with the address it dials; set its clock",
    ),
    Diagnosis(
        "finds our certificate expired",
        "our certificate has expired, or its clock is wrong",
        "set its clock; depot ca issue server makes a new certificate",
    ),
    Diagnosis(
        "offers only TLS below 1.2", "its TLS is too old", "update its firmware; older TLS is not let in"
    ),
    Diagnosis(
        "no cipher in common",
        "its TLS knows none of our ciphers",
        "update its firmware, or write tls_legacy_rsa = true under [ocpp] and give it an RSA certificate",
    ),
    Diagnosis(
        "does not speak TLS", "what it sends to the TLS port is not TLS", "type wss:// and the TLS port again"
    ),
    Diagnosis(
        "no TLS handshake",
        "it connects and then says nothing",
        "look at its address, port and wss:// setting",
    ),
    Diagnosis(
        "downgrade to security profile",
        "it comes with less security than is configured, or than it had before",
        "set its security profile as above; if it was set back on purpose, restart the controller",
    ),
    Diagnosis(
        "security profile 3 needs a certificate",
        "it has to come with a certificate of its own",
        "connect it with a password first, then depot station-certificate, or install one by hand",
    ),
    Diagnosis(
        "its certificate",
        "its certificate does not fit its identity, or is not accepted any more",
        "give it a new one: depot ca issue STATION, or depot station-certificate STATION",
    ),
    Diagnosis(
        "allow_from",
        "it comes from an address that the config does not allow for it",
        "add its address to allow_from in the config, or give it a fixed address",
    ),
    Diagnosis(
        "connected from",
        "another device with the same identity is connected already",
        "give one of the two another identity; if it is the same charger, wait until the old link is dead",
    ),
    Diagnosis(
        "too many failed attempts",
        "it tried too often with what does not fit; it may try again in a while",
        "mend what was wrong before (user name, password), then wait a minute",
    ),
)


def diagnosis(reason: str) -> Diagnosis:
    """What is known about a reason given at the door."""
    bare = reason.removeprefix("TLS: ")
    for known in DIAGNOSES:
        if bare.startswith(known.starts):
            return known
    return Diagnosis("", "it was turned away", "look into the controller's log")
