"""Every line that a server can log, found in the source: its event, its severity, its fields.

Knows calls of `log_event`; what an event tells an operator is a table here, which has to be
complete.
"""

import ast
from dataclasses import dataclass, field
from typing import get_args, get_type_hints

from cascade.tuning.hints import Hint
from tests.reference_pages.markdown import ROOT, modules, table, tree

MEANINGS = {
    "admin": "A request of the operator's port, with its HTTP status.",
    "bundle_file": "A caller downloaded a file of the bundle, or part of it.",
    "bundle_left": "The last request of a replaced bundle ended; its memory is freed.",
    "cancel": "A call of `Cancel`; `found` tells whether there was work or a kept result.",
    "draining": "A graceful shutdown began: new requests are refused, running ones finish.",
    "generate": "A call of `Generate` ended, with its outcome and where its time went.",
    "gpu_unused": "A card is present and no component uses it, with the reason and a command.",
    "http_port": "The port of the HTTP door is open.",
    "internal_error": "A failure whose caller received only `error_id`; no request content.",
    "lines_suppressed": "Log rate limiting: how many lines of one kind were not written.",
    "listening": "The server is ready: every component ran once and the port is open.",
    "operators_port": "The port of probes and metrics is open.",
    "prompt": "The prompt of a request; only with `log_prompts`.",
    "refused": "A request was refused before any work, with the reason of its error.",
    "reload": "A reload ended; `need_restart` lists changed settings that it did not apply.",
    "reload_refused": "A changed certificate or key file could not be used; the old one stays.",
    "reloaded": "A changed certificate or key file is in use.",
    "replica_handed_over": "A replica is closed; a reload opens another one in its place.",
    "replica_lost": "A replica ended, or answered nothing for too long; another takes its place.",
    "replica_ready": "A replica takes work.",
    "replicas_wait": "The cluster that was joined lacks processors or GPUs, and is waited for.",
    "replicas": "One more replica is begun, or one fewer kept, of `count` now.",
    "replica_refused": "A replica could not be opened; it is tried again after a pause.",
    "rows_measured": "The batch size of a component was measured (dynamic batching).",
    "rows_not_measured": "That measurement failed; the component runs rows one by one.",
    "stage_health": "A component became unhealthy or healthy (circuit breaker).",
    "stopped": "The process ends: drained, forced, or while loading.",
    "unauthenticated": "A call without accepted credentials was refused.",
    "unheard": "A request ended with no open stream; its result or error is kept.",
    "untuned": "Components run on engines that were not measured on this machine.",
}  # fmt: skip
"""By event, what it tells."""
FIELDS = {
    "address": "where it listens", "bundle_id": "id of the bundle", "bytes_received": "bytes",
    "bytes_sent": "bytes", "cause": "the reason in words", "engines": "by component",
    "error_id": "the id that the caller received", "file": "name in the manifest",
    "first": "position of the first component",
    "count": "of replicas that there are to be",
    "found": "whether there was anything", "frames": "file, line and function, innermost last",
    "host": "name of its machine", "identity": "the caller's name", "jobs": "requests that it had",
    "joined": "whether an earlier call began the work",
    "kind": "type of the error", "last": "position of the last component", "lines": "count",
    "max_batch_rows": "rows", "message": "the reason in words", "method": "gRPC method",
    "need_restart": "settings", "offset": "bytes that the caller had already",
    "pid": "its process",
    "of": "the suppressed event", "outcome": "how it ended",
    "prompt": "text", "reason": "reason of the error", "replica": "number of its place, from 0",
    "request_id": "the request",
    "run_s": "seconds by number of rows", "seconds": "seconds by part", "stage": "component",
    "status": "HTTP status", "text": "the error's text, or words for people",
    "total_s": "seconds", "untuned": "components", "warm_up_s": "seconds by component",
    "what": "which file", "works": "1 or 0",
}  # fmt: skip
"""By field, what it holds."""
SUPPRESSED = ("lines_suppressed", ["of", "outcome", "lines"])
"""Written by the log itself, not by `log_event`."""
SPREAD = {"generate": ["first", "last"]}
"""Fields that a call adds as a mapping."""


@dataclass
class LogEvent:
    """One kind of line."""

    levels: set[str] = field(default_factory=set)
    fields: list[str] = field(default_factory=list)
    where: set[str] = field(default_factory=set)


def events() -> dict[str, LogEvent]:
    """By name, everything that is logged.

    Raises:
        ValueError: a name is no literal, so that no reader could find it.
    """
    suppressed = LogEvent({"as suppressed"}, SUPPRESSED[1], {"runtime_server/telemetry/logs.py"})
    found = {SUPPRESSED[0]: suppressed}
    for path in modules(("runtime_server",)):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "log_event":
                note(found, node, where)
    return found


def note(found: dict[str, LogEvent], call: ast.Call, where: str) -> None:
    """Take in one call."""
    for name in names_of(call.args[0], f"{where}:{call.lineno}"):
        event = found.setdefault(name, LogEvent())
        named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        event.levels |= levels_of(named.pop("level", ast.Constant("info")))
        spread = SPREAD[name] if any(k.arg is None for k in call.keywords) else []
        event.fields += [key for key in (*named, *spread) if key not in event.fields]
        event.where.add(where)


def names_of(node: ast.expr, place: str) -> tuple[str, ...]:
    """The event that a call names; those of a hint are its type's.

    Raises:
        ValueError: it is neither, so that no reader could find it.
    """
    if isinstance(node, ast.Constant):
        return (str(node.value),)
    if ast.unparse(node) == "hint.event":
        return get_args(get_type_hints(Hint)["event"])
    raise ValueError(f"{place}: an event's name is written as a literal")


def levels_of(node: ast.expr) -> set[str]:
    """Severities that an expression can name."""
    found = {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in ("debug", "info", "warning", "error")
    }
    return {str(level) for level in found} or {"info", "warning", "error"}


def log_events() -> str:
    """The table of events.

    Raises:
        KeyError: an event has no meaning here yet.
    """
    rows = [
        (
            f"`{name}`",
            " or ".join(sorted(event.levels)),
            MEANINGS[name],
            ", ".join(f"`{key}`" for key in event.fields),
            ", ".join(f"`{path}`" for path in sorted(event.where)),
        )
        for name, event in sorted(events().items())
    ]
    return table(("event", "level", "meaning", "fields", "source"), rows)


def log_fields() -> str:
    """The table of fields.

    Raises:
        KeyError: a field has no meaning here yet.
    """
    used = sorted({key for event in events().values() for key in event.fields})
    return table(("field", "value"), [(f"`{key}`", FIELDS[key]) for key in used])
