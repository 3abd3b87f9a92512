"""The example of the interface document: every key is known, and what is not available yet is refused by
name."""

from __future__ import annotations

from controller.config import load

EXAMPLE = """
[site]
name = "Depot Noord"
timezone = "Europe/Amsterdam"
limit = "250 A"               # per phase at the grid connection
voltage = "230 V"             # nominal, phase to neutral
meter = "main"                # optional; without it the background load is `assumed_load`
assumed_load = "60 A"         # worst background load per phase while the meter is silent
max_imbalance = "20 A"        # optional
peak = "180 kW"               # optional quarter-hour peak to stay below

[circuit.row_a]
parent = "site"
limit = "100 A"               # a string for all phases or ["100 A", "100 A", "80 A"]
meter = "row_a"               # optional

[meter.main]
kind = "sdm630"               # a file in drivers/modbus
address = "tcp://10.0.4.20:502/1"     # or "rtu:///dev/ttyUSB0?baud=9600&parity=N/1" ; last part is the unit id
poll = "1 s"
stale_after = "5 s"
role = "grid"                 # grid | circuit | pv | battery | load
invert = false
ct_ratio = 1
phases = "L1 L2 L3"

[meter.row_a]
kind = "sdm630"
address = "rtu:///dev/ttyUSB0?baud=9600&parity=N/1"

[ocpp]                        # leave the table out: no OCPP
listen = "0.0.0.0:8887"       # ws; stations connect to ws://HOST:PORT/ocpp/STATION_ID or /STATION_ID
tls_listen = "0.0.0.0:8443"   # optional wss
tls_cert = "server.pem"
tls_key = "server.key"
client_ca = "ca.pem"          # security profile 3
unknown_tokens = "reject"     # reject | accept

[open_platform]               # leave the table out: no second backend, no outgoing connection at all
mode = "companion"            # sole | companion
enabled_by = "J. de Vries, 2026-11-20"     # consent: who and when; required
purposes = ["monitor", "control", "flexibility", "v2g", "diagnostics", "firmware"]

[open_platform.cloud]         # client of the hosted platform
base_url = "https://platform.example/v1"
region = "eu"                 # eu | us | site
client_id = "depot-noord"
client_secret_file = "platform.secret"     # or systemd credential of the same name
sign_requests = false

[open_platform.onsite]        # serve the charger side (and local clients) ourselves
listen = "0.0.0.0:8444"
tls_cert = "server.pem"
tls_key = "server.key"
clients = [{ id = "ems", secret_file = "ems.secret", scopes = ["read", "write"] }]

[station.CP001]
circuit = "row_a"
fallback = "6 A"              # stored in the station; what it does alone
evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3", current = "ac" }     # dc: max_power = "180 kW"
ocpp = { password_file = "CP001.secret" }          # or allow_insecure = true ; version = "1.6" | "2.0.1" | "2.1" pins it
open_platform = { device_id = "dvc_1", link = "cloud" }    # or { serial = "TP-1", model = "TP-DC60", link = "onsite" }

[station.CP002]
circuit = "row_a"
fallback = "6 A"
evse.1 = { max_power = "180 kW", current = "dc" }
open_platform = { serial = "TP-1", model = "TP-DC60", link = "onsite" }

[vehicle.BUS-07]
battery = "94 kWh"
tokens = ["04A2B3C4"]
max_power = "22 kW"

[tariff]
currency = "EUR"
prices = "prices.csv"         # start,price_per_kwh
peak_price = 6.0              # per kW of the month's highest quarter hour

[storage]
path = "/var/lib/depot"

[control]
socket = "/run/depot/control.sock"

[metrics]                     # optional
listen = "127.0.0.1:9464"     # Prometheus text

[mqtt]                        # optional
broker = "mqtt://127.0.0.1:1883"
home_assistant = true
"""


def test_every_key_of_the_interface_is_known(write_config, onsite_files):
    config = load(write_config(EXAMPLE))
    assert config.metrics is not None and (config.metrics.host, config.metrics.port) == ("127.0.0.1", 9464)
    assert config.mqtt is not None and config.mqtt.home_assistant and config.mqtt.commands == frozenset()
