"""A valid depot on disk, with its secret files, for tests to read or to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

VALID = (Path(__file__).parent / "valid.toml").read_text()

WriteConfig = Callable[[str], Path]


def write_secret(path: Path, content: str, mode: int = 0o600) -> None:
    path.write_text(content)
    path.chmod(mode)


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Writes a config beside the secrets that the valid one names."""
    write_secret(tmp_path / "CP001.secret", "correct horse\n")
    write_secret(tmp_path / "platform.secret", "battery staple\r\n")

    def write(text: str) -> Path:
        path = tmp_path / "depot.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def onsite_files(tmp_path: Path) -> Path:
    """Beside the config: what an on-site host needs. Certificate and key are none, but look like it."""
    write_secret(tmp_path / "ems.secret", "energy manager\n")
    write_secret(tmp_path / "console.secret", "diagnostics console\n")
    write_secret(tmp_path / "server.key", "-----BEGIN PRIVATE KEY-----\n")
    write_secret(tmp_path / "server.pem", "-----BEGIN CERTIFICATE-----\n", 0o644)
    write_secret(tmp_path / "ca.pem", "-----BEGIN CERTIFICATE-----\n", 0o644)
    return tmp_path


@pytest.fixture
def valid() -> str:
    return VALID
