"""`depot support-bundle`: one file for whoever helps, without anything secret in it.

Owns what goes in (config, what `check`, `doctor` and the running controller say, metrics, the newest log lines, versions) and
the two sieves everything passes: values of keys that name people, devices and clients are taken out of the config, and every
secret and id token this config knows is taken out of every text, wherever it stands. What cannot be had is said in its
place. Sends nothing anywhere. Source: field notes on support bundles: redacted, with a preview before it is saved.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from controller.cli.doctor import findings
from controller.cli.looks import ask
from controller.cli.sbom import document
from controller.config import Config, describe, load
from ui.client import CallRefused, NotReachable

HIDDEN = "***"
SHORTEST = 4  # a shorter secret would take letters out of every word
LOG_LINES = 2_000
LOG_BYTES = 1_000_000
CALLS = ("status", "stations", "channels", "alarms", "log", "onboarding", "qualifications", "frames")
_NAMED = re.compile(
    r"""\b(tokens|client_id|enabled_by|username|serial|device_id|site_ids)(\s*=\s*)(\[[^\]]*\]|"[^"]*"|'[^']*')"""
)

Part = tuple[str, str]  # name, text


def support_bundle(options: argparse.Namespace) -> int:
    config = load(Path(options.config))
    options.socket = options.socket or str(config.control_socket)
    sieve = sieve_of(config)
    made = [(name, sieve(text)) for name, text in parts(config, options)]
    for name, text in made:
        print(f"{len(text.encode()):>9}  {name}")
    if options.preview:
        print("nothing written: leave --preview out")
        return 0
    if options.file is None:
        raise CallRefused("bad-request", "name the file to write, or give --preview")
    _write(Path(options.file), made)
    print(f"written to {options.file}: look into it before you hand it on")
    return 0


def _write(path: Path, made: list[Part]) -> None:
    """Never over another file, and readable by nobody else."""
    try:
        with (
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle,
        ):
            for name, text in made:
                bundle.writestr(name, text)
    except OSError as error:
        raise CallRefused("failed", f"{path}: {error.strerror}; name another file") from None


# --- sieves -----------------------------------------------------------------------------------------------------


def sieve_of(config: Config) -> Callable[[str], str]:
    """Takes every secret that the config knows out of a text, also as JSON writes it."""
    words = {each for secret in _secrets(config) for each in (secret, json.dumps(secret)[1:-1])}
    known = sorted((word for word in words if len(word) >= SHORTEST), key=len, reverse=True)
    if not known:
        return str
    pattern = re.compile("|".join(map(re.escape, known)), re.IGNORECASE)
    return lambda text: pattern.sub(HIDDEN, text)


def _secrets(config: Config) -> Iterator[str]:
    for vehicle in config.site.vehicles.values():
        yield from vehicle.tokens
    found: list[str | None] = []
    if config.ocpp is not None:
        found += [station.password for station in config.ocpp.stations.values()]
    if (platform := config.open_platform) is not None:
        found.append(platform.enabled_by)  # a person
        found += [] if platform.cloud is None else [platform.cloud.client_secret]
        found += [] if platform.onsite is None else [client.secret for client in platform.onsite.clients]
    if config.mqtt is not None:
        found.append(config.mqtt.password)
    yield from (secret for secret in found if secret)


def redacted(source: str) -> str:
    """A config without who and which: names, serial numbers, id tokens."""
    return _NAMED.sub(lambda match: f'{match[1]}{match[2]}"{HIDDEN}"', source)


# --- parts ------------------------------------------------------------------------------------------------------


def parts(config: Config, options: argparse.Namespace) -> Iterator[Part]:
    yield "made.txt", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n"
    yield "config.toml", redacted(config.path.read_text(encoding="utf-8", errors="replace"))
    yield "check.txt", redacted(describe(config)) + "\n"
    yield "doctor.json", _json([asdict(each) for each in findings(config, options)])
    yield "versions.json", _json(document())
    for call in CALLS:
        yield f"{call}.json", _asked(options, call)
    if config.metrics is not None:
        yield "metrics.txt", _metrics(config.metrics.host, config.metrics.port)
    yield "log.txt", _log(config)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _asked(options: argparse.Namespace, call: str) -> str:
    try:
        return _json(ask(options, call))
    except (NotReachable, CallRefused) as error:
        return _json({"not": str(error)})


def _metrics(host: str, port: int) -> str:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    name = f"[{here}]" if ":" in here else here
    try:
        with urlopen(f"http://{name}:{port}/metrics", timeout=5.0) as answer:
            return str(answer.read(LOG_BYTES).decode(errors="replace"))
    except (URLError, OSError, ValueError) as error:
        return f"not: {error}\n"


def _log(config: Config) -> str:
    """Of the service; where there is no journal, of the file that the dashboard leaves."""
    if (program := shutil.which("journalctl")) is not None:
        command = [program, "--unit=depot", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso"]
        try:
            told = subprocess.run(command, capture_output=True, timeout=20, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            told = b""
        if told.count(b"\n") > 1:  # more than "no entries"
            return told[-LOG_BYTES:].decode(errors="replace")
    try:
        with (config.storage_path / "depot.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return "not: neither a journal nor a file\n"
