"""Every mistake is found, on its line, with a suggestion, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config import ConfigError, Problem, load

DC_FROM = 'max = "32 A", min = "6 A", phases = "L1 L2 L3", current = "ac"'
DC_AT = "station.CP001.evse.1."

# what valid.toml says, what it says instead (the problem is on the line marked #!), where, what is reported
MISTAKES = [
    # units, types, signs
    ('limit = "250 A"', 'limit = "250 kW" #!', "site.limit", "in kW alone protects no fuse"),
    ('limit = "250 A"', 'limit = "250 A"\nfuse = "300 A" #!', "site.fuse", "belongs to a limit in kW"),
    ('limit = "250 A"', 'fuse = "250 A"\nlimit = "0 kW" #!', "site.limit", "is zero"),
    ('limit = "250 A"', "limit = 250 #!", "site.limit", "250 has no unit"),
    ('limit = "250 A"', "limit = 2026-11-22 #!", "site.limit", "a date or time is not a current"),
    ('limit = "250 A"', 'limit = "much" #!', "site.limit", '"much" is not a current'),
    ('limit = "250 A"', 'limit = "-250 A" #!', "site.limit", "is negative"),
    ('limit = "250 A"', 'limit = "0 A" #!', "site.limit", "feeds nothing"),
    ('limit = "250 A"', 'limit = "6300 A" #!', "site.limit", 'did you mean "630 A" or "63 A"?'),
    ('limit = "250 A"', 'limit = "2001 A" #!', "site.limit", "above 2000 A, no depot has that fuse; check"),
    ('limit = "250 A"', f'limit = "{"9" * 400} A" #!', "site.limit", "is not a current"),
    ('["100 A", "100 A", "80 A"]', '["100 A", "80 A"] #!', "circuit.row_a.limit", "this one has 2"),
    ('["100 A", "100 A", "80 A"]', '["100 A", "100 A", "80 W"] #!', "circuit.row_a.limit", 'unit "W"'),
    ('voltage = "230 V"', 'voltage = "400 V" #!', "site.voltage", "phase-to-neutral"),
    ('name = "Depot Noord"', 'name = "" #!', "site.name", "is empty; fill it in"),
    ('name = "Depot Noord"', "name = 5 #!", "site.name", "5 is not a text"),
    ('name = "Depot Noord"', 'name = "a\\u0007" #!', "site.name", "invisible character"),
    ('"Europe/Amsterdam"', '"Europe/Amsterdm" #!', "site.timezone", 'did you mean "Europe/Amsterdam"?'),
    ('"Europe/Amsterdam"', '"Europe" #!', "site.timezone", 'time zone "Europe" does not exist'),
    ("ct_ratio = 60", "ct_ratio = 0 #!", "meter.main.ct_ratio", "0 is not a ratio"),
    ("ct_ratio = 60", "ct_ratio = nan #!", "meter.main.ct_ratio", "nan is not a ratio"),
    ("ct_ratio = 60", "ct_ratio = true #!", "meter.main.ct_ratio", "true is not a ratio"),
    ("ct_ratio = 60", f"ct_ratio = 0x{'f' * 5000} #!", "meter.main.ct_ratio", "a huge number is not a ratio"),
    ("invert = false", 'invert = "no" #!', "meter.main.invert", '"no" is neither true nor false'),
    (
        'battery = "94 kWh"',
        'battery = "94 kW" #!',
        "vehicle.BUS-07.battery",
        'unit "kW" is not an energy unit',
    ),
    (
        'max_power = "22 kW"',
        'max_power = "0 kW" #!',
        "vehicle.BUS-07.max_power",
        "is zero; leave the key out",
    ),
    # keys
    ("[site]", "[site]\nlimt = 1 #!", "site.limt", 'unknown key; did you mean "limit"?'),
    ("[site]", "[site]\nzzz = 1 #!", "site.zzz", "unknown key; known here: name, timezone"),
    ("[site]", '[site]\n"a b" = 1 #!', 'site."a b"', "unknown key"),
    ("[storage]", "[stations.X] #!\n[storage]", "stations", 'unknown key; did you mean "station"?'),
    ('max = "32 A", min', 'maxx = 1, max = "32 A", min', "station.CP001.evse.1.maxx", 'did you mean "max"?'),
    ("[storage]", "[storage]\nsize = 1 #!", "storage.size", "unknown key"),
    # references and trees
    (
        'meter = "main"',
        'meter = "mian" #!',
        "site.meter",
        'meter "mian" does not exist; did you mean "main"?',
    ),
    ('meter = "row_a"', 'meter = "main" #!', "circuit.row_a.meter", 'meter "main" already measures site'),
    ('parent = "row_a"', 'parent = "row_x" #!', "circuit.row_b.parent", 'did you mean "row_b"?'),
    ('parent = "row_a"', 'parent = "row_b" #!', "circuit.row_b.parent", "in a circle: row_b -> row_b"),
    (
        'parent = "site"',
        'parent = "row_b" #!',
        "circuit.row_a.parent",
        "in a circle: row_a -> row_b -> row_a",
    ),
    ('parent = "row_a"\n', "", "circuit.row_b.parent", 'is missing; write parent = "site"'),
    (
        "[circuit.row_b]",
        "[circuit.site] #!\n[circuit.row_b]",
        "circuit.site",
        "is the grid connection itself",
    ),
    ("[circuit.row_b]", '[circuit."row b"] #!\n[circuit.row_b]', 'circuit."row b"', "is not an id"),
    ("[circuit.row_b]", "[circuit]\nrow_c = 5 #!\n[circuit.row_b]", "circuit.row_c", "5 is not a table"),
    (
        'circuit = "row_b"\nfallback = "8 A"',
        'circuit = "row_c" #!\nfallback = "8 A"',
        "station.CP003.circuit",
        "did you mean",
    ),
    ('circuit = "row_a"\n', "", "station.CP001.circuit", "is missing"),
    # meters
    ('"tcp://10.0.4.20:502/1"', '"rtu:///dev/ttyUSB0" #!', "meter.main.address", "rtu://DEVICE?baud=9600"),
    ('"tcp://10.0.4.20:502/1"', '"10.0.4.20" #!', "meter.main.address", "is not a meter address"),
    ('"tcp://10.0.4.20:502/1"', '"tcp://h:70000/1" #!', "meter.main.address", "port 70000 does not exist"),
    ('"tcp://10.0.4.20:502/1"', '"tcp://h/256" #!', "meter.main.address", "unit id 256 does not exist"),
    (
        '"tcp://10.0.4.20/2"',
        '"tcp://10.0.4.20:502/1" #!',
        "meter.row_a.address",
        'also the address of meter "main"',
    ),
    ('poll = "1 s"', 'poll = "10 ms" #!', "meter.main.poll", "is not between 0.1 s and 60 s"),
    (
        'stale_after = "5 s"',
        'stale_after = "1 s" #!',
        "meter.main.stale_after",
        "not longer than the poll of 1 s",
    ),
    ('role = "grid"', 'role = "gird" #!', "meter.main.role", 'did you mean "grid"?'),
    ('role = "grid"', 'role = "circuit" #!', "meter.main.role", "does not fit the meter of the site"),
    ('role = "grid"', 'role = "pv" #!', "meter.main.role", "does not fit the meter of the site"),
    (
        "[ocpp]",
        '[meter.x] #!\nkind = "b23"\naddress = "tcp://h/1"\n[ocpp]',
        "meter.x",
        "no circuit uses this meter",
    ),
    (
        'phases = "L1 L2 L3"\n',
        'phases = "L1 L4" #!\n',
        "meter.main.phases",
        '"L1 L4" is not a list of phases',
    ),
    # stations and EVSEs
    (
        'fallback = "8 A"',
        'fallback = "4 A" #!',
        "station.CP003.fallback",
        "below the minimum of EVSE 1 (6 A)",
    ),
    (
        'fallback = "8 A"',
        'fallback = "33 A" #!',
        "station.CP003.fallback",
        "above the maximum of EVSE 1 (32 A)",
    ),
    ('fallback = "8 A"\n', "", "station.CP003.fallback", 'is missing; write fallback = "6 A"'),
    (
        'phases = "L2", step',
        'phases = "L2 L2", step',
        "station.CP001.evse.2.phases",
        "is not a list of phases",
    ),
    ('step = "0.1 A"', 'step = "4 A"', "station.CP001.evse.2.step", "not a whole number of steps"),
    ('max = "16 A"', 'max = "16 A", min = "20 A"', "station.CP001.evse.2.min", "above the maximum of 16 A"),
    ('evse.2 = { max = "16 A", ', "evse.2 = { ", "station.CP001.evse.2.max", "is missing"),
    ("evse.2", "evse.02", "station.CP001.evse.02", "is not an EVSE number"),
    ('current = "ac"', 'max_power = "50 kW"', "station.CP001.evse.1.max_power", "belongs to a DC output"),
    (DC_FROM, 'max = "32 A", current = "dc", max_power = "9 kW"', DC_AT + "max", "belongs to an AC outlet"),
    (DC_FROM, 'current = "dc"', DC_AT + "max_power", "is missing"),
    (DC_FROM, 'current = "dc", max_power = "50 kW", phases = "L1"', DC_AT + "phases", "three phases"),
    (
        DC_FROM,
        'current = "dc", max_power = "9 kW", min_power = "10 kW"',
        DC_AT + "min_power",
        "above max_power",
    ),
    (DC_FROM, 'current = "dc", max_power = "50 kW", efficiency = 92', DC_AT + "efficiency", "like 0.94"),
    ('fallback = "8 A"', 'fallback = "6 kW" #!', "station.CP003.fallback", "EVSE 1 is an AC outlet"),
    ('evse.1 = { max = "32 A" }\n', "", "station.CP003.evse", "is missing"),
    ('evse.1 = { max = "32 A" }\n', "evse = 1 #!\n", "station.CP003.evse", "1 is not a table"),
    # channels
    ('ocpp = { password_file = "CP001.secret" }\n', "", "station.CP001", "no channel reaches this station"),
    ('{ password_file = "CP001.secret" }', "{} #!", "station.CP001.ocpp.password_file", "is missing"),
    (
        '{ password_file = "CP001.secret" }',
        '{ password_file = "no" } #!',
        "station.CP001.ocpp.password_file",
        "No such file",
    ),
    (
        '{ password_file = "CP001.secret" }',
        '{ password_file = "a\\u0000" } #!',
        "station.CP001.ocpp.password_file",
        "invisible",
    ),
    (
        "allow_insecure = true,",
        'allow_insecure = true, password_file = "CP001.secret",',
        "station.CP002.ocpp.allow_insecure",
        "contradicts",
    ),
    ('version = "1.6"', 'version = "1.5"', "station.CP002.ocpp.version", '"1.5" is not known here'),
    ('listen = "0.0.0.0:8887"', 'listen = "8887" #!', "ocpp.listen", "is not an address to listen on"),
    ('listen = "0.0.0.0:8887"', 'listen = ":65536" #!', "ocpp.listen", "is not an address to listen on"),
    ('listen = "0.0.0.0:8887"\n', "", "ocpp.listen", "is missing"),
    (
        'unknown_tokens = "reject"',
        'unknown_tokens = "ask" #!',
        "ocpp.unknown_tokens",
        'choose one of "reject"',
    ),
    (
        'unknown_tokens = "reject"',
        'offline_tokens = "some" #!',
        "ocpp.offline_tokens",
        'choose one of "list"',
    ),
    ('link = "cloud"', 'link = "clowd"', "station.CP003.open_platform.link", 'did you mean "cloud"?'),
    (
        'link = "cloud"',
        'link = "cloud", serial = "TP-1"',
        "station.CP003.open_platform.serial",
        "belongs to link",
    ),
    (
        'open_platform = { device_id = "dvc_1", ',
        "open_platform = { ",
        "station.CP003.open_platform.device_id",
        "is missing",
    ),
    (
        "[vehicle.BUS-07]",
        '[station.D]\ncircuit = "site"\nfallback = "0 A"\nevse.1 = { max = "6 A" }\nopen_platform = { device_id = "dvc_1", link = "cloud" } #!\n[vehicle.BUS-07]',
        "station.D.open_platform.device_id",
        'already station "CP003"',
    ),
    # consent
    ('mode = "companion"', 'mode = "both" #!', "open_platform.mode", '"both" is not known here'),
    ('enabled_by = "J. de Vries, 2026-11-20"', 'enabled_by = " " #!', "open_platform.enabled_by", "is empty"),
    ('enabled_by = "J. de Vries, 2026-11-20"\n', "", "open_platform.enabled_by", "is missing"),
    (
        '["monitor", "control", "flexibility"]',
        '["monitr"] #!',
        "open_platform.purposes",
        'did you mean "monitor"?',
    ),
    (
        '["monitor", "control", "flexibility"]',
        "[] #!",
        "open_platform.purposes",
        "an empty list allows nothing",
    ),
    (
        '["monitor", "control", "flexibility"]',
        '"monitor" #!',
        "open_platform.purposes",
        "is not a list of texts",
    ),
    (
        "https://platform.example/v1/",
        "http://platform.example/v1",
        "open_platform.cloud.base_url",
        "unencrypted",
    ),
    (
        "https://platform.example/v1/",
        "ftp://platform.example",
        "open_platform.cloud.base_url",
        "not a web address",
    ),
    (
        "https://platform.example/v1/",
        "https://u:p@platform.example",
        "open_platform.cloud.base_url",
        "no user",
    ),
    ("https://platform.example/v1/", "https://[", "open_platform.cloud.base_url", "not a web address"),
    ('region = "eu"', 'region = "uk" #!', "open_platform.cloud.region", '"uk" is not known here'),
    ('client_secret_file = "platform.secret"\n', "", "open_platform.cloud.client_secret_file", "is missing"),
    (
        "sign_requests = false",
        'sign_requests = "yes" #!',
        "open_platform.cloud.sign_requests",
        '"yes" is neither true nor false',
    ),
    # vehicles and places
    (
        'tokens = ["04A2B3C4"]',
        f'tokens = ["{"A" * 37}"] #!',
        "vehicle.BUS-07.tokens",
        "longer than 36 characters",
    ),
    (
        "[storage]",
        '[vehicle.V]\ntokens = ["04a2b3c4"] #!\n[storage]',
        "vehicle.V.tokens",
        'belongs to vehicle "BUS-07"',
    ),
    ('socket = "control.sock"', f'socket = "/{"s" * 107}" #!', "control.socket", "at most 107 bytes"),
    ("[storage]", "[[storage]] #!", "storage", "a list is not a table"),
    # what later releases bring
    ("[site]", '[site]\nmax_imbalance = "4.6 kW" #!', "site.max_imbalance", "not a current unit"),
    ("[site]", '[site]\npeak = "180 A" #!', "site.peak", "power"),
]


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


@pytest.mark.parametrize(
    ("right", "wrong", "where", "said"), MISTAKES, ids=[f"{m[2]}-{n}" for n, m in enumerate(MISTAKES)]
)
def test_one_mistake_is_one_problem(write_config, valid, right, wrong, where, said):
    assert right in valid
    text = valid.replace(right, wrong, 1)
    [problem] = problems_of(write_config(text))
    assert problem.where == where
    assert said in str(problem)
    assert problem.suggestion
    assert problem.line == expected_line(text, wrong, where)


def expected_line(text: str, wrong: str, where: str) -> int:
    """The line marked #!, else the line that was changed, else (a key is missing) the header of its table."""
    headers = [f"[{'.'.join(where.split('.')[:depth])}]" for depth in (2, 1)]
    header = next((header for header in headers if header in text), "")
    sought = "#!" if "#!" in wrong else wrong.partition("\n")[0] or header
    return text[: text.index(sought)].count("\n") + 1


def test_many_mistakes_are_all_told_at_once_in_file_order(write_config, valid):
    chosen = [
        m for m in MISTAKES if m[0] in ('name = "Depot Noord"', "ct_ratio = 60", 'listen = "0.0.0.0:8887"')
    ]
    mistakes = list({right: (right, wrong, where) for right, wrong, where, _ in [*chosen, *LONE]}.values())
    text = valid
    for right, wrong, _ in mistakes:
        text = text.replace(right, wrong, 1)
    problems = problems_of(write_config(text))
    assert sorted(problem.where for problem in problems) == sorted(where for _, _, where in mistakes)
    lines = [problem.line for problem in problems]
    assert None not in lines
    assert lines == sorted(lines)


# mistakes in tables of their own, which do not hide each other
LONE = [
    ('limit = "32 A"', 'limit = "32"', "circuit.row_b.limit", ""),
    ('role = "grid"', 'role = "gird"', "meter.main.role", ""),
    ('circuit = "row_a"', 'circuit = "row_z"', "station.CP001.circuit", ""),
    ('fallback = "8 A"', 'fallback = "8 kA"', "station.CP003.fallback", ""),
    ('region = "eu"', 'region = "mars"', "open_platform.cloud.region", ""),
    ('tokens = ["04A2B3C4"]', "tokens = [4]", "vehicle.BUS-07.tokens", ""),
    ('socket = "control.sock"', "sockt = 1", "control.sockt", ""),
]


def test_an_error_prints_as_one_line_per_problem(write_config, valid):
    text = valid.replace('circuit = "row_a"', 'circuit = "row_c"').replace("[control]", '["con\\ntrol"]')
    path = write_config(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).splitlines() == [
        f'{path}:51: station.CP001.circuit: circuit "row_c" does not exist; did you mean "row_b"?',
        f'{path}:77: "con\\ntrol": unknown key; did you mean "control"?',
    ]


# --- files that are no config at all -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"", None, "site: is missing; add [site]"),
        (b"[site\n", 1, "Expected"),
        (b"[site]\nlimit = 250 A\n", 2, 'texts need quotes: limit = "16 A"'),
        (b"[site]\n[station.A]\n[station.A]\n", 3, "stands here twice: keep one"),
        (b"[site]\nname = 1\nname = 2\n", 3, "stands here twice: keep one"),
        (b'[site]\nname = "caf\xe9"\n', 2, "is not UTF-8 text; save the file as UTF-8"),
        (b"a = " + b"[" * 100_000, None, "is nested too deeply"),
        (b"a = " + b"9" * 5_000, 1, "integer string conversion"),
        (b"#" * 1_000_001, None, "is longer than 1000000 bytes"),
    ],
    ids=["empty", "broken", "unquoted", "table twice", "key twice", "latin-1", "deep", "long number", "huge"],
)
def test_a_file_that_is_no_config_is_one_problem(tmp_path, content, line, said):
    path = tmp_path / "depot.toml"
    path.write_bytes(content)
    [problem] = problems_of(path)
    assert problem.line == line
    assert said in str(problem)


def test_a_missing_file_and_a_folder_are_problems(tmp_path):
    [problem] = problems_of(tmp_path / "none.toml")
    assert str(problem) == "cannot be read: No such file or directory; check the path and the rights"
    [problem] = problems_of(tmp_path)
    assert "Is a directory" in problem.text
