"""[metrics] and [mqtt]: what is read, what is refused, and that no secret is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.config import ConfigError, describe, load

WriteConfig = Callable[[str], Path]

MISTAKES = [
    ("[metrics]", "metrics.listen", "is missing"),
    ('[metrics]\nlisten = "9464"', "metrics.listen", "not an address to listen on"),
    ("[mqtt]", "mqtt.broker", "is missing"),
    ('[mqtt]\nbroker = "127.0.0.1:1883"', "mqtt.broker", "not the address of a broker"),
    ('[mqtt]\nbroker = "http://127.0.0.1"', "mqtt.broker", "not the address of a broker"),
    ('[mqtt]\nbroker = "mqtt://h:99999"', "mqtt.broker", "not the address of a broker"),
    ('[mqtt]\nbroker = "mqtt://me:secret@h"', "mqtt.broker", "holds no user"),
    ('[mqtt]\nbroker = "mqtt://h"\ntopic = "depot/#"', "mqtt.topic", "not a topic"),
    ('[mqtt]\nbroker = "mqtt://h"\ncommands = ["limits"]', "mqtt.commands", "not a command"),
    ('[mqtt]\nbroker = "mqtt://h"\ncommands = ["limit"]', "mqtt.commands", "from anybody"),
    ('[mqtt]\nbroker = "mqtt://h"\npassword_file = "mqtt.secret"', "mqtt.password_file", "without username"),
    (
        '[mqtt]\nbroker = "mqtt://h"\nusername = "d"\npassword_file = "mqtt.secret"',
        "mqtt.password_file",
        "unencrypted",
    ),
    ('[mqtt]\nbroker = "mqtt://h"\nca = "ca.pem"', "mqtt.ca", "mqtt://"),
    ('[mqtt]\nbroker = "mqtts://h"\ntls_cert = "ca.pem"', "mqtt.tls_cert", "without tls_key"),
    ('[mqtt]\nbroker = "mqtt://h"\npasword_file = "x"', "mqtt.pasword_file", "unknown key"),
]


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "mqtt.secret").touch(mode=0o600)
    (tmp_path / "mqtt.secret").write_text("canary-of-the-broker\n")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")


@pytest.mark.parametrize(
    ("table", "where", "said"), MISTAKES, ids=[f"{m[1]}-{n}" for n, m in enumerate(MISTAKES)]
)
def test_a_mistake_is_one_problem_with_its_place(
    write_config: WriteConfig, valid: str, files: None, table: str, where: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write_config(f"{valid}\n{table}\n"))
    [problem] = caught.value.problems
    assert problem.where == where and said in str(problem) and problem.suggestion


def test_everything_that_can_be_said_of_a_broker(write_config: WriteConfig, valid: str, files: None) -> None:
    table = (
        '[mqtt]\nbroker = "mqtts://broker.lan"\nhome_assistant = true\ntopic = "yard/1"\nusername = "depot"\n'
        'password_file = "mqtt.secret"\nca = "ca.pem"\ncommands = ["limit", "pause"]\n'
    )
    config = load(write_config(f"{valid}\n{table}"))
    mqtt = config.mqtt
    assert mqtt is not None
    assert (mqtt.host, mqtt.port, mqtt.tls, mqtt.topic) == ("broker.lan", 8883, True, "yard/1")
    assert (mqtt.username, mqtt.password, mqtt.commands) == (
        "depot",
        "canary-of-the-broker",
        {"limit", "pause"},
    )
    assert "canary" not in repr(config) and "canary" not in describe(config)
    assert "mqtts://broker.lan:8883" in describe(config) and "limit, pause" in describe(config)


def test_the_topic_comes_from_the_name_of_the_site(write_config: WriteConfig, valid: str) -> None:
    mqtt = load(write_config(f'{valid}\n[mqtt]\nbroker = "mqtt://[::1]:1884"\n')).mqtt
    assert mqtt is not None
    assert (mqtt.host, mqtt.port, mqtt.topic) == ("::1", 1884, "depot/depot-noord")


def test_an_open_broker_is_believed_where_the_file_says_so(
    write_config: WriteConfig, valid: str, files: None
) -> None:
    table = (
        '[mqtt]\nbroker = "mqtt://h"\nusername = "d"\npassword_file = "mqtt.secret"\ncommands = ["stop"]\n'
    )
    mqtt = load(write_config(f"{valid}\n{table}allow_insecure = true\n")).mqtt
    assert mqtt is not None and mqtt.commands == {"stop"}


def test_metrics_are_described_with_who_can_read_them(write_config: WriteConfig, valid: str) -> None:
    shown = describe(load(write_config(f'{valid}\n[metrics]\nlisten = ":9464"\n')))
    assert "metrics  http 0.0.0.0:9464, readable by everybody on the network" in shown
    assert "everybody" not in describe(load(write_config(f'{valid}\n[metrics]\nlisten = "127.0.0.1:9464"\n')))
