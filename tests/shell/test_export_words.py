"""`depot export` where no server is needed: what may stand in the URL, how safe a connection must be, what is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller.cli import main
from drivers.errors import Misconfigured
from drivers.postgres import address, tables
from drivers.postgres.address import read

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGSSLMODE", "PGSSLROOTCERT", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", __file__)


@pytest.mark.parametrize(
    ("url", "where", "sslmode"),
    [
        ("postgresql://me@db.example.com/fleet", "db.example.com:5432/fleet", "verify-full"),
        ("postgres://me@10.0.0.7:6432/fleet", "10.0.0.7:6432/fleet", "verify-full"),
        ("postgresql://me@[2001:db8::7]:6432/fleet", "[2001:db8::7]:6432/fleet", "verify-full"),
        ("postgresql://me@db.example.com/fleet?sslmode=require", "db.example.com:5432/fleet", "require"),
        ("postgresql://me@localhost/fleet", "localhost:5432/fleet", None),
        ("postgresql://me@127.0.0.1:5433/fleet", "127.0.0.1:5433/fleet", None),
        ("postgresql://[::1]/fleet", "[::1]:5432/fleet", None),
        ("postgresql:///fleet?host=/var/run/postgresql", "/var/run/postgresql/fleet", None),
        ("postgresql:///a%20fleet", "localhost:5432/a fleet", None),
    ],
)
def test_off_this_box_the_certificate_is_checked_unless_the_url_says_otherwise(
    url: str, where: str, sslmode: str | None
) -> None:
    found = read(url)
    assert found.where == where
    assert found.parameters.get("sslmode") == sslmode
    assert found.parameters.get("sslrootcert") == (__file__ if sslmode == "verify-full" else None)


def test_the_certificate_authority_can_be_named() -> None:
    found = read("postgresql://me@db.example.com/fleet?sslrootcert=/etc/depot/ca.pem")
    assert (found.parameters["sslmode"], found.parameters["sslrootcert"]) == (
        "verify-full",
        "/etc/depot/ca.pem",
    )


def test_a_box_without_any_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    monkeypatch.setattr(address, "_BUNDLES", ())
    with pytest.raises(Misconfigured, match=r"has no CA certificates: apt install ca-certificates"):
        read("postgresql://me@db.example.com/fleet")
    assert read("postgresql://me@db.example.com/fleet?sslmode=require").parameters.get("sslrootcert") is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:SECRET@db.example.com/fleet", "a password in the URL shows in the process list"),
        ("postgresql://me@db.example.com/fleet?password=SECRET", "a password in the URL"),
        ("postgresql://me:SE@CRET@db.example.com/fleet", "a password in the URL"),
        ("postgresql://me@db.example.com:SECRET/fleet", "not a URL like"),
        ("postgresql://me@db.example.com", "names no database"),
        ("postgresql://me@db.example.com/", "names no database"),
        ("mysql://me@db.example.com/SECRET", "not a URL like"),
        ("db.example.com", "not a URL like"),
        ("", "not a URL like"),
        ("postgresql://[::1/fleet", "not a URL like"),
        ("postgresql://me@db.example.com/fleet?SECRET", "not a URL like"),
        ("postgresql://me@db.example.com/fleet?colour=SECRET", "cannot set 'colour'; known: channel_binding"),
        ("postgresql://me@db.example.com/fl%00eet", "not a URL like"),
        ("postgresql://me@db.example.com/fleet#SECRET", "not a URL like"),
    ],
)
def test_a_bad_url_is_one_line_that_repeats_nothing_of_it(
    url: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--to", url, "--socket", "/nowhere"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("depot: --to: ") and said in err and len(err.splitlines()) == 1
    assert "SECRET" not in err


def test_either_a_place_or_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["export"], ["export", "--sql", "--to", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    assert main(["export", "--sql"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("BEGIN;") and f"SET number = {tables.VERSION};\nCOMMIT;\n-- and" in script


def test_a_credential_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert address.credential() is None
    (tmp_path / address.CREDENTIAL).write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="cannot be read as text"):
        address.credential()


def test_nobody_loads_the_library_but_an_export() -> None:
    code = "import sys, controller.cli.serve, controller.cli.compose, controller.cli.export; print('psycopg' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_the_unit_asks_as_a_viewer_and_the_timer_starts_it() -> None:
    unit = (UNITS / "depot-export.service").read_text(encoding="utf-8")
    assert "SupplementaryGroups=depot-viewers\n" in unit and "--plain-tokens" not in unit
    assert f"#LoadCredential={address.CREDENTIAL}:" in unit
    timer = (UNITS / "depot-export.timer").read_text(encoding="utf-8")
    assert re.search(r"^OnCalendar=", timer, re.MULTILINE) and "Unit=" not in timer, (
        "its name is its service's"
    )
