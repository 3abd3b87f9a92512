"""The on-site host in the config: what a correct file becomes, and every mistake with its line and advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config import ConfigError, OnsiteClient, OnsiteConfig, OnsiteStation, describe, load
from controller.core.model import EvseId, Link, StationId

ONSITE = """
[site]
name = "Yard"
timezone = "UTC"
limit = "63 A"
assumed_load = "20 A"

[open_platform]
mode = "sole"
enabled_by = "J. de Vries, 2026-11-20"
purposes = ["monitor", "control"]

[open_platform.onsite]
listen = "0.0.0.0:8444"
tls_cert = "server.pem"
tls_key = "server.key"
clients = [
  { id = "ems", secret_file = "ems.secret", scopes = ["read", "write"] },
  { id = "console", secret_file = "console.secret", scopes = ["read"] },
]

[station.A]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
open_platform = { serial = "TP-1", model = "TP-AC22", link = "onsite", autostart = true }

[station.B]
circuit = "site"
fallback = "0 A"
evse.1 = { max = "16 A" }
open_platform = { serial = "TP-2", model = "TP-AC22", link = "onsite" }
"""
TLS = 'tls_cert = "server.pem"\ntls_key = "server.key"\n'
CLOUD = """[open_platform.cloud]
base_url = "https://platform.example/v1"
region = "eu"
client_id = "depot"
client_secret_file = "platform.secret"
"""
CLOUD_STATION = 'open_platform = { device_id = "dvc_1", link = "cloud" }'
ONSITE_STATION = 'open_platform = { serial = "TP-2", model = "TP-AC22", link = "onsite" }'
BOTH = ONSITE.replace(ONSITE_STATION, CLOUD_STATION) + CLOUD


def test_a_full_file(write_config, onsite_files):
    config = load(write_config(ONSITE))
    a, b = StationId("A"), StationId("B")
    assert config.open_platform.cloud is None
    assert config.open_platform.onsite == OnsiteConfig(
        "0.0.0.0",
        8444,
        onsite_files / "server.pem",
        onsite_files / "server.key",
        (
            OnsiteClient("ems", "energy manager", frozenset({"read", "write"})),
            OnsiteClient("console", "diagnostics console", frozenset({"read"})),
        ),
        {a: OnsiteStation(a, "TP-1", "TP-AC22"), b: OnsiteStation(b, "TP-2", "TP-AC22")},
    )
    evses = config.site.evses
    assert [evses[EvseId(name)].autostart for name in ("A/1", "B/1")] == [True, False]
    link = Link(
        "open-platform/onsite", 120, 40, 10, 20,
        lease_ends_with_transaction=False, settle_s=10, stores_schedules=True, names_tokens=False,
    )  # fmt: skip
    assert evses[EvseId("A/1")].link == link


def test_both_ways_at_once(write_config, onsite_files):
    config = load(write_config(BOTH.replace('"eu"', '"eu"\nsign_requests = true')))
    assert config.open_platform.cloud.sign_requests
    channels = [evse.link.channel for evse in config.site.evses.values()]
    assert channels == ["open-platform/onsite", "open-platform/cloud"]


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8444", "localhost:8444"])
def test_this_machine_alone_may_go_without_tls(write_config, onsite_files, listen):
    text = ONSITE.replace(TLS, "").replace("0.0.0.0:8444", listen)
    onsite = load(write_config(text)).open_platform.onsite
    assert (onsite.tls_cert, onsite.tls_key) == (None, None)


def test_clients_may_be_left_out_or_written_as_tables(write_config, onsite_files):
    start, end = ONSITE.index("clients = ["), ONSITE.index("[station.A]")
    alone = ONSITE[:start] + ONSITE[end:]
    assert load(write_config(alone)).open_platform.onsite.clients == ()
    table = '[[open_platform.onsite.clients]]\nid = "ems"\nsecret_file = "ems.secret"\nscopes = ["read"]\n'
    assert len(load(write_config(alone + table)).open_platform.onsite.clients) == 1


def test_a_key_may_be_a_credential_of_systemd(write_config, onsite_files, monkeypatch):
    credentials = onsite_files / "credentials"
    credentials.mkdir()
    (onsite_files / "server.key").rename(credentials / "server.key")
    (credentials / "server.key").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert load(write_config(ONSITE)).open_platform.onsite.tls_key == credentials / "server.key"


def test_as_described_and_without_secrets(write_config, onsite_files):
    config = load(write_config(BOTH.replace('"eu"', '"eu"\nsign_requests = true')))
    shown = describe(config)
    assert "  onsite listens on https 0.0.0.0:8444, 1 station\n" in shown.replace("          ", "    ")
    assert "client console may read\n" in shown
    assert "client ems may read and write\n" in shown
    assert "requests signed" in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith(("  A/1", "  B/1"))]
    assert [row[13:] for row in rows] == [["onsite,", "autostart"], ["cloud"]], rows
    for secret in ("energy manager", "diagnostics console", "PRIVATE"):
        assert secret not in shown + repr(config)
    plain = describe(load(write_config(ONSITE.replace(TLS, "").replace("0.0.0.0", "127.0.0.1"))))
    assert "onsite listens on http (this machine only) 127.0.0.1:8444, 2 stations" in plain


# what the file says, what it says instead (the problem is on the line marked #!), where, what is reported
AT = "open_platform.onsite"
MISTAKES = [
    (TLS, "", f"{AT}.tls_cert", "plain HTTP on 0.0.0.0 would show every secret"),
    ('tls_key = "server.key"\n', "", f"{AT}.tls_key", 'is missing; write tls_key = "server.key" too'),
    ('tls_cert = "server.pem"\n', "", f"{AT}.tls_cert", 'is missing; write tls_cert = "server.pem" too'),
    ('"server.key"', '"ems.secret" #!', f"{AT}.tls_key", "holds no private key in PEM"),
    ('"server.pem"', '"server.key" #!', f"{AT}.tls_cert", "holds no certificate in PEM"),
    ('"server.pem"', '"." #!', f"{AT}.tls_cert", "cannot be read: Is a directory"),
    ('"server.key"', '"gone.key" #!', f"{AT}.tls_key", "No such file or directory; create it with mode 600"),
    ('listen = "0.0.0.0:8444"\n', "", f"{AT}.listen", "is missing"),
    ('"0.0.0.0:8444"', '"8444" #!', f"{AT}.listen", "is not an address to listen on"),
    ('{ id = "ems", ', '{ name = "ems", id = "ems", ', f"{AT}.clients.name", "unknown key"),
    ('id = "console"', 'id = "ems"', f"{AT}.clients", '"ems" stands here twice'),
    ('id = "console"', 'id = "a b"', f"{AT}.clients.id", "is not an id"),
    ('id = "console", ', "", f"{AT}.clients.id", "is missing"),
    ('"console.secret"', '"gone.secret"', f"{AT}.clients.secret_file", "No such file"),
    (', scopes = ["read"]', "", f"{AT}.clients.scopes", "is missing"),
    ('scopes = ["read"]', "scopes = []", f"{AT}.clients.scopes", "an empty list allows nothing"),
    ('scopes = ["read"]', 'scopes = ["reed"]', f"{AT}.clients.scopes", 'did you mean "read"?'),
    ('scopes = ["read"]', 'scopes = "read"', f"{AT}.clients.scopes", "is not a list of texts"),
    ("clients = [\n", 'clients = ["cron",\n', f"{AT}.clients", "a list is not a list of tables"),
    ('serial = "TP-2", ', "", "station.B.open_platform.serial", "is missing"),
    ('model = "TP-AC22", link = "onsite" }', 'link = "onsite" }', "station.B.open_platform.model", "is missing"),
    ('serial = "TP-2"', 'serial = "TP-1"', "station.B.open_platform.serial", 'already station "A"'),
    ('serial = "TP-2"', f'serial = "{"9" * 129}"', "station.B.open_platform.serial", "longer than 128"),
    (
        'serial = "TP-2"',
        'device_id = "d", serial = "TP-2"',
        "station.B.open_platform.device_id",
        'belongs to link = "cloud"',
    ),
    (ONSITE_STATION, CLOUD_STATION, "open_platform.cloud", "is missing; add [open_platform.cloud]"),
    ("[station.A]", f"{CLOUD}[station.A]", "open_platform.cloud", "no station is linked to it"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "where", "said"), MISTAKES, ids=[f"{m[2]}-{n}" for n, m in enumerate(MISTAKES)]
)
def test_one_mistake_is_one_problem(write_config, onsite_files, right, wrong, where, said):
    before, found, after = ONSITE.rpartition(right)
    assert found
    text = before + wrong + after
    [problem] = problems_of(write_config(text))
    assert (problem.where, problem.suggestion != "") == (where, True)
    assert said in str(problem)
    if "#!" in wrong:
        assert problem.line == text[: text.index("#!")].count("\n") + 1
    else:
        assert problem.line is not None


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("-----BEGIN PRIVATE KEY-----\n", 0o644, "is open to others (mode 0644); run: chmod 600 server.key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", 0o600, "needs a passphrase"),
    ],
)
def test_a_key_that_others_can_read_or_nobody_can_use(write_config, onsite_files, content, mode, said):
    (onsite_files / "server.key").write_text(content)
    (onsite_files / "server.key").chmod(mode)
    [problem] = problems_of(write_config(ONSITE))
    assert (problem.where, said in str(problem)) == (f"{AT}.tls_key", True), str(problem)


def test_a_table_without_its_stations_and_stations_without_their_table(write_config, onsite_files):
    lonely = ONSITE.replace(ONSITE_STATION, CLOUD_STATION)
    start, end = lonely.index("[open_platform.onsite]"), lonely.index("[station.A]")
    problems = problems_of(write_config(lonely[:start] + lonely[end:]))
    assert [problem.where for problem in problems] == ["open_platform.cloud", "open_platform.onsite"]
    assert all("is missing" in problem.text for problem in problems)


def problems_of(path: Path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems
