"""Whatever the file holds, reading it ends in a Config or a ConfigError, and every line number is right."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.config import ConfigError, load
from controller.config.lines import key_lines

# The same examples in every run: a gate that fails by chance is switched off sooner or later.
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(
            ["6 A", "1 s", "site", "L1", "-1 A", "tcp://h/1", "main", "row_a", "ac", "CP001.secret", "grid"]
        ),
        st.dates(),
    ),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=5,
)


def as_toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(as_toml(item) for item in value)}]"
        case dict():
            return f"{{{', '.join(f'{as_toml(key)} = {as_toml(item)}' for key, item in value.items())}}}"
    return str(value)


def only_config_errors(path: Path) -> None:
    try:
        load(path)
    except ConfigError as error:
        assert error.problems
        assert len(str(error).splitlines()) == len(error.problems)


@SETTINGS
@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused(write_config, valid, data):
    lines = valid.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from([n for n, line in enumerate(lines) if "=" in line]))
        key = lines[at].partition("=")[0]
        lines[at] = f"{key}= {as_toml(data.draw(VALUES))}"
    only_config_errors(write_config("\n".join(lines)))


@SETTINGS
@given(data=st.data())
def test_any_shuffled_or_broken_text_is_read_or_refused(write_config, valid, data):
    lines = data.draw(st.lists(st.sampled_from(valid.splitlines()) | st.text(max_size=10), max_size=25))
    only_config_errors(write_config("\n".join(lines)))


@SETTINGS
@given(noise=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path, noise):
    path = tmp_path / "noise.toml"
    path.write_bytes(noise)
    only_config_errors(path)


@SETTINGS
@given(
    tables=st.dictionaries(
        st.text(max_size=5), st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=4
    )
)
def test_the_line_of_every_key_of_any_text_is_found(tables):
    source = ""
    expected: dict[tuple[str, ...], int] = {}
    for name, table in tables.items():
        source += f"[{as_toml(name)}]\n"
        expected[(name,)] = source.count("\n")
        for key, value in table.items():
            source += f"{as_toml(key)} = {as_toml(value)}\n"
            expected[(name, key)] = source.count("\n")
    assert set(tomllib.loads(source)) == set(tables)
    found = key_lines(source)
    assert {path: line for path, line in found.items() if len(path) <= 2} == expected
