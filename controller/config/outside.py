"""[metrics] and [mqtt]: who may look in from outside, and what may be ordered from there.

Owns the rules between their keys: a password does not cross a network in the clear, and orders are taken only from a broker
that knows its clients, unless the file says otherwise by name. Whether a broker answers shows when it is used.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from controller.config.files import certificate_file, key_file, secret
from controller.config.table import Table
from controller.config.types import Config, MetricsConfig, MqttConfig
from controller.config.values import Wrong, flag, is_loopback, listen, one_or_more_of, quoted, text

METRICS_KEYS = "listen"
MQTT_KEYS = "broker home_assistant topic username password_file ca tls_cert tls_key commands allow_insecure"
ORDERS = ("start", "stop", "pause", "resume", "limit")
PORTS = {"mqtt": 1883, "mqtts": 8883}
_INSECURE = "allow_insecure = true on a network of its own"

Broker = tuple[str, str, int]  # scheme, host, port


def read_metrics(table: Table) -> MetricsConfig | None:
    address = table.required("listen", listen, '"127.0.0.1:9464"')
    return None if address is None else MetricsConfig(*address)


def read_mqtt(table: Table, base: Path, site: str) -> MqttConfig | None:
    broker = table.required("broker", _broker, '"mqtt://127.0.0.1:1883"')
    username = table.optional("username", text, None)
    password = table.optional("password_file", secret(base), None)
    ca = table.optional("ca", certificate_file(base), None)
    cert = table.optional("tls_cert", certificate_file(base), None)
    key = table.optional("tls_key", key_file(base), None)
    commands = table.optional("commands", one_or_more_of(ORDERS, "command", '["limit"]'), frozenset[str]())
    insecure = table.optional("allow_insecure", flag, False)
    topic = table.optional("topic", _topic, f"depot/{_slug(site)}")
    home_assistant = table.optional("home_assistant", flag, False)
    if broker is None:
        return None
    scheme, host, port = broker
    for name, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if name in table and other not in table:
            table.note(name, f"means nothing without {other}", f"write {other} too")
    for name in ("ca", "tls_cert"):
        if name in table and scheme == "mqtt":
            table.note(name, "means nothing with mqtt://", 'write broker = "mqtts://..."')
    if "password_file" in table and username is None:
        table.note("password_file", "means nothing without username", 'write username = "depot" too')
    elif "password_file" in table and scheme == "mqtt" and not is_loopback(host) and not insecure:
        table.note("password_file", "would cross the network unencrypted", f"write mqtts://, or {_INSECURE}")
    if commands and username is None and cert is None and not insecure:
        table.note(
            "commands", "would be taken from anybody on that broker", f"add username and password_file, or {_INSECURE}"
        )  # fmt: skip
    return MqttConfig(
        host, port, scheme == "mqtts", topic, home_assistant, username, password, ca, cert, key, commands
    )


def outside(config: Config) -> list[str]:
    """For `depot check`."""
    rows = []
    if (metrics := config.metrics) is not None:
        who = "" if is_loopback(metrics.host) else ", readable by everybody on the network"
        rows.append(f"metrics  http {metrics.host}:{metrics.port}{who}")
    if (mqtt := config.mqtt) is not None:
        scheme = "mqtts" if mqtt.tls else "mqtt"
        found = ", found by Home Assistant" if mqtt.home_assistant else ""
        orders = f"may order: {', '.join(sorted(mqtt.commands))}" if mqtt.commands else "takes no orders"
        rows.append(f"mqtt  {scheme}://{mqtt.host}:{mqtt.port}, topic {mqtt.topic}{found}, {orders}")
    return rows


def _broker(value: object) -> Broker:
    written = text(value)
    wrong = Wrong(
        f"{quoted(written)} is not the address of a broker", 'write it like "mqtt://127.0.0.1:1883"'
    )
    try:
        parts = urlsplit(written)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in PORTS or not host or " " in written or port == 0:
        raise wrong
    if parts.username is not None:
        raise Wrong("the address of a broker holds no user", "write username and password_file")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise wrong
    return parts.scheme, host, port or PORTS[parts.scheme]


def _topic(value: object) -> str:
    word = text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", word) or len(word) > 100:
        raise Wrong(
            f"{quoted(word)} is not a topic to begin with", 'write it like "depot/noord", without + and #'
        )
    return word


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "site"
