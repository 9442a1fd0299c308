"""The setting that says where engines run, and the settings that only one kind obeys."""

from typing import Literal, get_args

from cascade.errors import InvalidRequest
from runtime_server.config.bounds import check_one_of

ExecutorKind = Literal["local", "ray"]


def check_executor(kind: str, **of_replicas: object) -> None:
    """Raise `InvalidRequest` where replicas are described and none are asked for.

    Args:
        kind: one of `ExecutorKind`.
        **of_replicas: settings that mean nothing without replicas.
    """
    check_one_of("executor", kind, get_args(ExecutorKind))
    for name, value in of_replicas.items():
        if value and kind == "local":
            raise InvalidRequest(f"{name}: it needs --executor ray", field=name)


def check_most(name: str, most: int, least: int) -> None:
    """Raise `InvalidRequest` where an upper bound is set that is below the lower one."""
    if most and most < least:
        raise InvalidRequest(f"{name}: {most} is less than the {least} at the start", field=name)
