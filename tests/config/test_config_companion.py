"""Two channels to one station in the config: who leads, what the other is permitted, and every mistake about it."""

from __future__ import annotations

import pytest

from controller.config import ConfigError, describe, load
from controller.core.model import EvseId, StationId

BOTH = """
[site]
name = "Yard"
timezone = "UTC"
limit = "100 A"
assumed_load = "20 A"

[ocpp]
listen = "127.0.0.1:0"

[open_platform]
mode = "companion"
enabled_by = "J. de Vries, 2026-11-20"
purposes = ["monitor", "v2g"]

[open_platform.cloud]
base_url = "https://platform.example/v1"
region = "eu"
client_id = "depot"
client_secret_file = "platform.secret"

[open_platform.onsite]
listen = "127.0.0.1:0"

[station.A]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
ocpp = { allow_insecure = true }
open_platform = { device_id = "dvc_1", link = "cloud", permit = ["start", "schedule"] }

[station.B]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
ocpp = { allow_insecure = true }
open_platform = { serial = "TP-2", model = "TP-AC22", link = "onsite" }

[station.C]
circuit = "site"
fallback = "0 A"
evse.1 = { max = "16 A" }
open_platform = { device_id = "dvc_3", link = "cloud", autostart = true }

[station.D]
circuit = "site"
fallback = "0 A"
evse.1 = { max = "16 A" }
ocpp = { allow_insecure = true }
"""


def test_ocpp_leads_and_the_other_is_its_companion(write_config):
    config = load(write_config(BOTH))
    evses = config.site.evses
    channels = {id: (evse.link.channel, evse.companion, evse.autostart) for id, evse in evses.items()}
    assert channels == {
        EvseId("A/1"): ("ocpp", "open-platform/cloud", False),
        EvseId("B/1"): ("ocpp", "open-platform/onsite", False),
        EvseId("C/1"): ("open-platform/cloud", None, True),
        EvseId("D/1"): ("ocpp", None, False),
    }
    assert evses[EvseId("A/1")].discharge_channel == "open-platform/cloud"
    assert config.permits == {
        StationId("A"): frozenset({"start", "schedule"}),
        StationId("B"): frozenset(),
    }
    assert set(config.ocpp.stations) == {"A", "B", "D"}
    assert set(config.open_platform.cloud.stations) == {"A", "C"}


def test_the_report_says_what_is_permitted(write_config):
    shown = " ".join(describe(load(write_config(BOTH))).split())
    assert "ocpp + cloud, INSECURE" in shown
    assert "ocpp + onsite, INSECURE" in shown
    assert (
        "A: OCPP leads; here discharge, faults, flexibility, energy; permitted: schedule, start; refused: stop"
        in shown
    )
    assert (
        "B: OCPP leads; here discharge, faults, flexibility, energy; refused: start, stop, schedule" in shown
    )
    assert "C: OCPP" not in shown and "D: OCPP" not in shown


MISTAKES = [
    ('["start", "schedule"]', '["start", "begin"]', "station.A.open_platform.permit", '"begin" is not a permission'),
    ('["start", "schedule"]', "[]", "station.A.open_platform.permit", "an empty list allows nothing"),
    ("autostart = true", 'permit = ["start"]', "station.C.open_platform.permit", "beside ocpp only"),
    ('link = "onsite" }', 'link = "onsite", autostart = true }', "station.B.open_platform.autostart", "without ocpp"),
    ('[ocpp]\nlisten = "127.0.0.1:0"\n', "", "station.A.ocpp", "there is no [ocpp] table"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "where", "said"), MISTAKES)
def test_one_mistake_is_one_problem_at_its_place(write_config, right, wrong, where, said):
    assert BOTH.count(right) == 1
    with pytest.raises(ConfigError) as caught:
        load(write_config(BOTH.replace(right, wrong)))
    found = [problem for problem in caught.value.problems if problem.where == where]
    assert [said in problem.text for problem in found] == [True], caught.value.problems
    assert found[0].suggestion and found[0].line


def test_mode_sole_knows_one_channel_per_station(write_config):
    with pytest.raises(ConfigError) as caught:
        load(write_config(BOTH.replace('"companion"', '"sole"')))
    assert [problem.where for problem in caught.value.problems] == [
        "station.A.open_platform",
        "station.B.open_platform",
    ]
    assert 'write mode = "companion"' in caught.value.problems[0].suggestion


def test_mode_companion_is_fine_for_stations_of_one_channel(write_config):
    start, end = BOTH.index("[station.A]"), BOTH.index("[station.C]")
    alone = BOTH[:start] + BOTH[end:]
    without_host = alone.replace('[open_platform.onsite]\nlisten = "127.0.0.1:0"\n', "")
    config = load(write_config(without_host))
    assert config.open_platform.mode == "companion"
    assert config.permits == {}
    assert "beside OCPP" not in describe(config)
