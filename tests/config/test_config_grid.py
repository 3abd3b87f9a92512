"""What the grid asks for: [site] peak and [grid_limit.*], read and refused."""

from __future__ import annotations

import pytest

from controller.config import Config, ConfigError, describe, load
from controller.config.grid import guaranteed_w
from controller.core.model import Battery, CircuitId, GridLimit, MeterId

SITE_LINE = 'meter = "main"\nassumed_load = "60 A"'


def read(write_config, text: str) -> Config:
    return load(write_config(text))


def refusals(write_config, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write_config(text))
    return [str(problem) for problem in caught.value.problems]


def test_a_peak_is_read(write_config, valid):
    site = read(write_config, valid.replace(SITE_LINE, f'{SITE_LINE}\npeak = "180 kW"')).site
    assert (site.peak_w, site.peak_follows_month) == (180_000, False)
    more = f'{SITE_LINE}\npeak = "180 kW"\npeak_follows_month = true'
    assert read(write_config, valid.replace(SITE_LINE, more)).site.peak_follows_month
    assert read(write_config, valid).site.peak_w is None


def test_a_peak_without_a_site_meter_is_refused(write_config, valid):
    text = valid.replace(SITE_LINE, 'assumed_load = "60 A"\npeak = "180 kW"').replace('role = "grid"\n', "")
    text = text.replace(
        '[circuit.row_b]\nparent = "row_a"', '[circuit.row_b]\nparent = "row_a"\nmeter = "main"'
    )
    (said,) = refusals(write_config, text)
    assert said.startswith("site.peak: needs a meter that tells the energy of the quarter hour")


def test_following_the_month_needs_a_peak(write_config, valid):
    (said,) = refusals(write_config, valid.replace(SITE_LINE, f"{SITE_LINE}\npeak_follows_month = true"))
    assert said.startswith("site.peak_follows_month:")


# --- [grid_limit.*] ------------------------------------------------------------------------------------------------------

RELAY = '\n[grid_limit.dso]\ncircuit = "row_a"\ninput = "tcp://10.0.4.30/7?coil=2"\nactive = "closed"\n'


def test_a_limit_in_kilowatts_is_read_with_its_contact(write_config, valid):
    more = 'limit = "9 kW"\nwithin = "30 s"\non_loss = "hold"\nstale_after = "20 s"\npoll = "2 s"\n'
    config = read(write_config, valid + RELAY + more)
    (limit,) = config.site.grid_limits
    assert limit == GridLimit("dso", CircuitId("row_a"), 9_000, "9 kW", True, 20.0, "hold", 30.0)
    (contact,) = config.inputs
    assert (contact.host, contact.port, contact.unit, contact.table, contact.at, contact.poll_s) == (
        "10.0.4.30", 502, 7, "coil", 2, 2.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "most_w"),
    [("0 %", 0), ("0 kW", 0), ("40 %", (22_080 + 3_680 + 22_080 + 22_080) * 40 // 100), ("14a", 13_020)],
)
def test_every_form_of_a_limit_is_a_power(write_config, valid, written, most_w):
    """Below the site: three EVSEs of 32 A on three phases, one of 16 A on one."""
    text = valid + RELAY.replace('circuit = "row_a"\n', "") + f'limit = "{written}"\n'
    (limit,) = read(write_config, text).site.grid_limits
    assert (limit.circuit, limit.power_w, limit.on_loss) == ("site", most_w, "limit")


@pytest.mark.parametrize(
    ("devices", "most_w"),
    [
        (1, 4_200),
        (2, 7_560),
        (3, 10_500),
        (4, 13_020),
        (5, 15_120),
        (6, 16_800),
        (7, 18_060),
        (8, 18_900),
        (9, 19_320),
    ],
)
def test_the_guaranteed_power_follows_the_table(write_config, valid, devices, most_w):
    assert guaranteed_w(devices) == most_w
    text = valid + RELAY + f'limit = "14a"\nevses = {devices}\n'
    assert read(write_config, text).site.grid_limits[0].power_w == most_w


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('limit = "140 %"', 'grid_limit.dso.limit: "140 %" is more than all'),
        ('limit = "9 A"', "grid_limit.dso.limit:"),
        ('limit = "14a"\nevses = 0', "grid_limit.dso.evses: is not a number of EVSEs"),
        ('limit = "9 kW"\non_loss = "free"', "grid_limit.dso.on_loss:"),
        ('limit = "9 kW"\nstale_after = "0.5 s"', "grid_limit.dso.stale_after: is not longer than the poll"),
        ('limit = "9 kW"\nwithin = "0 s"', "grid_limit.dso.within:"),
        ('within = "30 s"', "grid_limit.dso.limit: is missing"),
    ],
)
def test_a_wrong_limit_is_one_problem(write_config, valid, line, said):
    (problem,) = refusals(write_config, valid + RELAY + line + "\n")
    assert said in problem


@pytest.mark.parametrize(
    "written",
    [
        "tcp://10.0.4.30/7",
        "tcp://10.0.4.30/7?coil=70000",
        "tcp://10.0.4.30/7?register=1",
        "http://x/1?coil=0",
    ],
)
def test_a_wrong_contact_is_one_problem(write_config, valid, written):
    text = valid + RELAY.replace("tcp://10.0.4.30/7?coil=2", written) + 'limit = "9 kW"\n'
    (problem,) = refusals(write_config, text)
    assert "grid_limit.dso.input:" in problem


def test_one_contact_serves_one_limit(write_config, valid):
    one = RELAY + 'limit = "9 kW"\n'
    (problem,) = refusals(write_config, valid + one + one.replace("grid_limit.dso", "grid_limit.other"))
    assert 'is also the input of "dso"' in problem


def test_a_contact_on_a_serial_line(write_config, valid):
    text = valid + RELAY.replace(
        "tcp://10.0.4.30/7?coil=2", "rtu:///dev/ttyUSB0?baud=19200&parity=E/3?input=4"
    )
    (contact,) = read(write_config, text + 'limit = "9 kW"\n').inputs
    assert (contact.transport, contact.baud, contact.parity, contact.unit, contact.table, contact.at) == (
        "rtu", 19200, "E", 3, "input", 4,
    )  # fmt: skip


def test_check_shows_the_peak_and_every_limit(write_config, valid):
    text = valid.replace(SITE_LINE, f'{SITE_LINE}\npeak = "180 kW"') + RELAY + 'limit = "9 kW"\n'
    shown = " ".join(describe(load(write_config(text))).split())
    assert (
        "Grid quarter-hour peak 180 kW dso row_a 9 kW while coil 2 of tcp://10.0.4.30:502/7 is closed,"
        in shown
    )
    assert "Grid" not in describe(load(write_config(valid)))


# --- surplus, and meters that guard nothing ------------------------------------------------------------------------------


def test_an_evse_may_live_on_surplus(write_config, valid):
    text = valid.replace('current = "ac" }', 'current = "ac", surplus = true }')
    evses = read(write_config, text).site.evses
    assert [evse for evse in evses if evses[evse].surplus] == ["CP001/1"]


def test_surplus_without_a_site_meter_is_refused(write_config, valid):
    text = valid.replace('current = "ac" }', 'current = "ac", surplus = true }')
    text = text.replace(SITE_LINE, 'assumed_load = "60 A"').replace('role = "grid"\n', "")
    text = text.replace(
        '[circuit.row_b]\nparent = "row_a"', '[circuit.row_b]\nparent = "row_a"\nmeter = "main"'
    )
    (said,) = refusals(write_config, text)
    assert said.startswith("station.CP001.evse.1.surplus: needs a meter")


@pytest.mark.parametrize("role", ["pv", "battery", "load"])
def test_a_meter_of_another_kind_of_power_belongs_to_no_circuit(write_config, valid, role):
    text = (
        valid
        + f'\n[meter.extra]\nkind = "sunspec-inverter"\naddress = "tcp://10.0.4.40/1"\nrole = "{role}"\n'
    )
    config = read(write_config, text)
    assert config.site.meters["extra"].role == role
    (said,) = refusals(write_config, text.replace(f'role = "{role}"\n', ""))
    assert "no circuit uses this meter" in said


# --- [battery.*] ---------------------------------------------------------------------------------------------------------

STORE = """
[meter.bat]
kind = "sunspec-battery"
address = "tcp://10.0.4.40/1"
role = "battery"

[battery.store]
meter = "bat"
address = "tcp://10.0.4.40/1"
kind = "sunspec"
charge = "10 kW"
discharge = "8 kW"
floor = "15 %"
"""


def test_a_battery_is_read(write_config, valid):
    config = read(write_config, valid + STORE)
    assert config.site.batteries == (Battery("store", MeterId("bat"), CircuitId("site"), 10_000, 8_000, 15),)
    assert config.site.batteries[0].channel == "battery/store"
    (place,) = config.batteries
    assert (place.id, place.host, place.port, place.unit) == ("store", "10.0.4.40", 502, 1)
    more = STORE + 'circuit = "row_a"\nphases = "L2"\nlease = "30 s"\n'
    (battery,) = read(write_config, valid + more).site.batteries
    assert (battery.circuit, battery.phases, battery.lease_s) == ("row_a", (1,), 30.0)
    assert "battery store site, charges 10 kW" in " ".join(
        describe(load(write_config(valid + STORE))).split()
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('meter = "bat"\n', "", "battery.store.meter: is missing"),
        ('meter = "bat"\n', 'meter = "main"\n', 'battery.store.meter: "main" measures something else'),
        ('charge = "10 kW"\n', "", "battery.store.charge: is missing"),
        ('floor = "15 %"', 'floor = "150 %"', "battery.store.floor:"),
        ('kind = "sunspec"\n', 'kind = "other"\n', "battery.store.kind:"),
        ('floor = "15 %"', 'lease = "1 s"', "battery.store.lease:"),
    ],
)
def test_a_wrong_battery_is_one_problem(write_config, valid, old, new, said):
    (problem,) = refusals(write_config, valid + STORE.replace(old, new))
    assert said in problem
