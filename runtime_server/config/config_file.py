"""A server's configuration from a TOML file, and from the flags that override it.

Unknown keys and values of a wrong type are refused by name. Relative paths in the file are relative
to the file, so that it means the same from every folder. Knows files; no command line.
"""

import difflib
import json
import textwrap
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cascade.addresses import UNIX_PREFIX
from cascade.errors import InvalidRequest
from cascade.system.bounded_files import read_setting
from runtime_server.config.config import ServerConfig
from runtime_server.config.settings import ServerSetting, settings

MAX_CONFIG_BYTES = 1 << 20
COLUMNS = 98
EXAMPLES = {bool: "false", int: "0", float: "0.0", str: '""', Path: '"FILE"'}
"""What stands, commented out, for a value that is not set."""
TYPE_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def no_bundle() -> Path:
    """What stands for a bundle that neither file nor overrides name, unless told otherwise."""
    raise InvalidRequest(
        "bundle: give the folder of a bundle, in the file or with --bundle", field="bundle"
    )


def load_config(
    path: Path | None, overrides: Mapping[str, Any], find_bundle: Callable[[], Path] = no_bundle
) -> ServerConfig:
    """The configuration that a file and whatever overrides it make together.

    Args:
        path: a TOML file; None takes the defaults.
        overrides: values by field name, as the fields want them.
        find_bundle: called for a bundle's folder where neither names one.

    Raises:
        InvalidRequest: the file cannot be read, has an unknown key or a value of a wrong type; or
            the values together are refused by `ServerConfig`.
    """
    values = {} if path is None else read_config_file(path)
    values.update(overrides)
    if "bundle" not in values:
        values["bundle"] = find_bundle()
    return ServerConfig(**values)


def read_config_file(path: Path) -> dict[str, Any]:
    """The values of a file by field name.

    Raises:
        InvalidRequest: see `load_config`.
    """
    try:
        table = tomllib.loads(read_setting(path, "config", MAX_CONFIG_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{path}: not TOML: {exc}", field="config") from exc
    known = {setting.name: setting for setting in settings()}
    values = {}
    for key, value in table.items():
        if key not in known:
            raise unknown_key(path, key, list(known))
        values[key] = read_value(known[key], value, path.parent)
    return values


def unknown_key(path: Path, key: str, known: list[str]) -> InvalidRequest:
    """The error for a key that no field has."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    return InvalidRequest(f"{path}: no setting {key[:80]!r}: did you mean {near}?", field=key[:80])


def read_value(setting: ServerSetting, value: Any, folder: Path) -> Any:
    """One value of the file as its field wants it; an integer may stand where a number is wanted.

    Args:
        setting: the field.
        value: as TOML has it.
        folder: what relative paths are relative to.

    Raises:
        InvalidRequest: of another type, or not among the choices.
    """
    wanted: Any = str if setting.kind is Path else setting.kind
    if type(value) is not wanted and not (wanted is float and type(value) is int):
        raise InvalidRequest(
            f"{setting.name}: expected {TYPE_NAMES[wanted]}, got {value!r}", field=setting.name
        )
    if setting.choices and value not in setting.choices:
        raise InvalidRequest(
            f"{setting.name}: expected one of {', '.join(setting.choices)}, got {value!r}",
            field=setting.name,
        )
    if setting.kind is Path:
        return folder / value
    if wanted is str and value.startswith(UNIX_PREFIX):
        return UNIX_PREFIX + str(folder / value.removeprefix(UNIX_PREFIX))
    return wanted(value)


def write_config(config: ServerConfig) -> str:
    """A configuration as a file that says it again: help above each key, defaults commented out."""
    blocks = []
    for setting in settings():
        value = getattr(config, setting.name)
        comment = textwrap.fill(setting.help, COLUMNS, initial_indent="# ", subsequent_indent="# ")
        mark = "" if setting.required or value != setting.default else "#"
        line = (
            f"{mark}{setting.name} = {write_value(value)}"
            if value is not None
            else (f"#{setting.name} = {EXAMPLES[setting.kind]}")
        )
        blocks.append(f"{comment}\n{line}\n")
    return "\n".join(blocks)


def write_value(value: Any) -> str:
    """One value as TOML has it."""
    if isinstance(value, bool | str | Path):
        # Texts of JSON are texts of TOML too.
        return json.dumps(str(value) if isinstance(value, Path) else value)
    return repr(value)
