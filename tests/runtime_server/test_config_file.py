"""The server's configuration as a TOML file and as flags: each setting by both, nothing unknown."""

import argparse
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import pytest

from cascade.errors import InvalidRequest
from runtime_server import ServerConfig
from runtime_server.cli import register
from runtime_server.config.config_file import (
    load_config,
    read_config_file,
    write_config,
    write_value,
)
from runtime_server.config.flags import given_flags
from runtime_server.config.settings import ServerSetting, read_type, settings
from tests import settings_table

EXAMPLE = Path(__file__).parents[2] / "deploy" / "server.toml"
# Values that the configuration accepts where the default's neighbour is not one.
OTHER_VALUES: dict[str, Any] = {
    "listen": "127.0.0.1:1",
    "engine": "ort",
    "precision": "fp32",
    "log_level": "error",
    "max_batch_rows": "4,base=2",
}
PAIRS = {"tls_cert": {"tls_key": Path("/k.pem")}, "tls_key": {"tls_cert": Path("/c.pem")}}
"""Settings that are refused alone, with what they need."""


def other_value(setting: ServerSetting) -> Any:
    """A value that is not the default."""
    if setting.name in OTHER_VALUES:
        return OTHER_VALUES[setting.name]
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    if setting.kind is bool:
        return not setting.default
    if setting.kind in (int, float):
        return setting.kind(setting.default + 1)
    return Path("/some/where") if setting.kind is Path else "other"


def parsed(*arguments: str) -> argparse.Namespace:
    """The command line of `serve`."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(["serve", *arguments])


def flags_of(setting: ServerSetting, value: Any) -> list[str]:
    """The command line that sets a value."""
    if setting.kind is bool:
        return [setting.flag if value else setting.flag.replace("--", "--no-")]
    return [setting.flag, str(value)]


def test_every_field_is_a_setting_with_help() -> None:
    """Name, type and text come from the class, of which no source need be there."""
    assert [s.name for s in settings()] == [f.name for f in fields(ServerConfig)]
    assert all(s.help for s in settings())


@pytest.mark.parametrize("setting", settings(), ids=lambda s: s.name)
def test_every_setting_can_be_given_by_file_and_by_flag(
    setting: ServerSetting, tmp_path: Path
) -> None:
    """Both make the same value of the field's own type; the flag wins over the file."""
    value = other_value(setting)
    file = tmp_path / "server.toml"
    file.write_text(f"{setting.name} = {write_value(value)}\n")
    assert read_config_file(file) == {setting.name: value}
    given = given_flags(parsed("--config", str(file), *flags_of(setting, value)))
    assert given == {setting.name: value}
    assert type(given[setting.name]) is type(read_config_file(file)[setting.name])


def test_flags_override_the_file(tmp_path: Path) -> None:
    """Also back to the default and to false."""
    file = tmp_path / "server.toml"
    file.write_text('bundle = "b"\ncut = 2\nreflection = true\nthreads = 3\n')
    config = load_config(file, given_flags(parsed("--cut", "0", "--no-reflection")))
    assert (config.cut, config.reflection, config.threads) == (0, False, 3)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Of files and of sockets; absolute ones stay."""
    file = tmp_path / "server.toml"
    file.write_text(
        'bundle = "some/bundle"\nlisten = "unix:s.sock"\ntls_cert = "/c.pem"\ntls_key = "k.pem"\n'
    )
    config = load_config(file, {})
    assert config.bundle == tmp_path / "some/bundle"
    assert config.socket_path == tmp_path / "s.sock"
    assert (config.tls_cert, config.tls_key) == (Path("/c.pem"), tmp_path / "k.pem")


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("max_queued = 3", "max_queued", "did you mean max_queued_per_stage"),
        ("[limits]\nx = 1", "limits", "did you mean"),
        ("cut = 1.0", "cut", "expected an integer"),
        ("cut = true", "cut", "expected an integer"),
        ("cut = '1'", "cut", "expected an integer"),
        ("insecure = 1", "insecure", "expected true or false"),
        ("drain_grace_s = '3'", "drain_grace_s", "expected a number"),
        ("listen = 7860", "listen", "expected a text"),
        ("bundle = ['b']", "bundle", "expected a text"),
        ("log_level = 'loud'", "log_level", "expected one of debug, info"),
        ("cut = -1\nbundle = 'b'", "cut", "at least 0"),
        ("cut = 0\ncut = 1", "config", "not TOML"),
        ("cut", "config", "not TOML"),
        ("", "bundle", "give the folder"),
    ],
)
def test_wrong_files_are_refused_by_name(
    text: str, field: str, message: str, tmp_path: Path
) -> None:
    """The error names the key, and what would be right."""
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=message) as refused:
        load_config(file, {})
    assert refused.value.field == field


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(InvalidRequest, match=r"none\.toml"):
        load_config(tmp_path / "none.toml", {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not TOML"):
        load_config(tmp_path / "binary.toml", {})


def test_a_printed_configuration_says_the_same_again(tmp_path: Path) -> None:
    """Every value that differs from its default comes back."""
    config = ServerConfig(
        bundle=Path('/a "quoted" path'), cut=1, reflection=True, context_lifetime_s=1.5
    )
    file = tmp_path / "server.toml"
    file.write_text(write_config(config))
    assert load_config(file, {}) == config


def test_the_example_is_complete_and_true() -> None:
    """It loads, names every setting, and what it comments out is the default."""
    config = load_config(EXAMPLE, {})
    assert config.bundle.resolve() == EXAMPLE.parents[1] / "bundles" / "emoji-1"
    lines = EXAMPLE.read_text().splitlines()
    values = tomllib.loads("\n".join(line.removeprefix("#") for line in lines if line[:2] != "# "))
    assert list(values) == [setting.name for setting in settings()]
    active = read_config_file(EXAMPLE)
    for setting in settings():
        if setting.name not in active and setting.default is not None:
            assert values[setting.name] == setting.default


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, (float, ())),
        (int | None, (int, ())),
        (Literal["off", "on"], (str, ("off", "on"))),
    ],
)
def test_types_of_fields_are_read(annotation: Any, expected: Any) -> None:
    """Values that may be absent, and values of a fixed set."""
    assert read_type(annotation) == expected


def test_a_type_that_no_flag_can_have_is_a_mistake() -> None:
    """It is found when the settings are read, not when an operator gives the flag."""
    for annotation in (dict[str, int], tuple[str, ...]):
        with pytest.raises(TypeError, match="no type of a setting"):
            read_type(annotation)


def test_the_manual_and_the_example_say_what_the_fields_say() -> None:
    """`python -m tests.settings_table` writes both again."""
    assert settings_table.MANUAL.read_text() == settings_table.manual()
    assert settings_table.EXAMPLE.read_text() == settings_table.example()
