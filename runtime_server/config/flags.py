"""The flags of `cascade serve`, made from the fields of its configuration.

Groups are by name, so that a new field finds its place in `--help`. Knows argparse and settings;
what a value means is known elsewhere.
"""

import argparse
from pathlib import Path
from typing import Any

from runtime_server.config.settings import ServerSetting, settings

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "what it serves",
        (
            "bundle",
            "cut",
            "components",
            "threads",
            "engine",
            "precision",
            "warm_up",
            "require_signature",
        ),
    ),
    ("where it listens", ("listen", "tls_", "insecure", "reflection", "metrics_", "http")),
    ("who may call", ("token", "jwt", "anonymous", "quota", "health_auth", "offer_bundle")),
    ("how it is stopped", ("drain_", "until_stdin_closes")),
    ("what it tells", ("log_", "trace")),
)
"""Titles of `--help` with the fields of each, by name or by how the name begins."""
OTHERS = "what it allows"


def add_flags(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    """Add one flag per setting; those not given on the command line are absent from the result.

    Args:
        parser: of the subcommand.
        defaults: values for the help where they differ from the field's.
    """
    groups = {title: parser.add_argument_group(title) for title, _ in GROUPS}
    groups[OTHERS] = parser.add_argument_group(OTHERS)
    for setting in settings():
        add_flag(groups[group_of(setting.name)], setting, defaults)


def group_of(name: str) -> str:
    """The title under which a setting is shown."""
    for title, beginnings in GROUPS:
        if name.startswith(beginnings):
            return title
    return OTHERS


def add_flag(group: Any, setting: ServerSetting, defaults: dict[str, Any]) -> None:
    """One setting as a flag."""
    options: dict[str, Any] = {
        "dest": setting.name,
        "default": argparse.SUPPRESS,
        "help": help_of(setting, defaults.get(setting.name, setting.default)),
    }
    if setting.kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["type"] = setting.kind
        options["metavar"] = metavar_of(setting)
        options["choices"] = setting.choices or None
    group.add_argument(setting.flag, **options)


def metavar_of(setting: ServerSetting) -> str | None:
    """What stands for the value in `--help`; the choices themselves where there are some."""
    if setting.choices:
        return None
    return {int: "N", float: "X", str: "TEXT", Path: "PATH"}.get(setting.kind, "VALUE")


def help_of(setting: ServerSetting, default: object) -> str:
    """The setting's help with its default."""
    if setting.kind is bool:
        default = "on" if default else None
    shown = "" if default in (None, "") else f" (default: {default})"
    return (setting.help + shown).replace("%", "%%")


def given_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that stood on the command line, as their fields want them."""
    given = {}
    for setting in settings():
        if setting.name in args:
            given[setting.name] = getattr(args, setting.name)
    return given
