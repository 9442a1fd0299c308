"""The least and the most of settings that are numbers. Knows their names alone."""

from collections.abc import Mapping, Sequence

from cascade.errors import InvalidRequest

MOST_SECONDS = 1e9
"""Of any time: a system's clocks overflow a little above, in the midst of a request."""
LEAST: Mapping[str, float] = {
    "cut": 0,
    "threads": 0,
    "replicas": 0,
    "max_replicas": 0,
    "replica_gpus": 0,
    "replica_silence_s": 0.1,
    "max_queued_per_stage": 1,
    "max_in_flight": 1,
    "max_running": 1,
    "max_waiting_between": 0,
    "max_batch_bytes": 0,
    "turn_after_s": 0,
    "context_store_bytes": 0,
    "context_lifetime_s": 0,
    "max_in_flight_bytes": 1,
    "max_in_flight_per_identity": 1,
    "result_store_bytes": 0,
    "result_lifetime_s": 0,
    "max_linger_s": 0,
    "reader_patience_s": 0.001,
    "drain_grace_s": 0,
    "stage_failures_in_row": 1,
    "stage_probe_s": 0.1,
    "quota_megapixels_per_minute": 0,
    "max_bundle_downloads": 1,
    "bundle_megabytes_per_s": 0,
}
"""The least value of each setting that has one."""


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise `InvalidRequest` when `value` is smaller, not a number, or a time beyond all clocks."""
    if not value >= least:
        raise InvalidRequest(f"{name}: expected at least {least}, got {value}", field=name)
    if name.endswith("_s") and value > MOST_SECONDS:
        raise InvalidRequest(
            f"{name}: expected at most {MOST_SECONDS:.0f} seconds, got {value:g}", field=name
        )


def check_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise `InvalidRequest` when `value` is none of the choices."""
    if value not in choices:
        raise InvalidRequest(
            f"{name}: expected one of {', '.join(choices)}, got {value!r}", field=name
        )
