"""The smallest depot there is, as a config: one charger below a connection of 32 A."""

from __future__ import annotations

CONFIG = """
[site]
name = "One post"
timezone = "Europe/Amsterdam"
limit = "32 A"
assumed_load = "10 A"
[ocpp]
listen = "127.0.0.1:0"
[station.CP001]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "16 A", min = "6 A", phases = "L1 L2 L3" }
ocpp = { allow_insecure = true }
[storage]
path = "state"
[control]
socket = "control.sock"
"""
