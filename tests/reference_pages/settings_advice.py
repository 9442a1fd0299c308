"""When an operator changes a setting, and what shows that it was hit: the parts no field holds.

A table that has to name every setting of the server. Knows words only.
"""

from typing import NamedTuple


class Advice(NamedTuple):
    """Beside a setting's default and meaning."""

    unit: str
    change: str
    """When to raise, lower or set it."""
    symptom: str
    """The error, metric or log line that shows that it was hit."""


FILE, NAME, SWITCH = "file", "name", "on or off"
NONE = "none"

ADVICE = {
    "bundle": Advice("folder", "set it", "`MANIFEST_ERROR` at the start"),
    "listen": Advice("address", "set it to serve other machines; that needs TLS or `insecure`",
                     "exit code 2 at the start"),
    "cut": Advice("components", "raise it to the clients' cut to save memory",
                  "`INVALID_REQUEST` naming `start` for a component that is not hosted"),
    "components": Advice("names", "name those that clients place here, to save memory and disk",
                         "`INVALID_REQUEST` naming `start` or `last_stage`; `PLACEMENT_ERROR` at "
                         "the client"),
    "threads": Advice("threads", "lower it where other programs need the cores",
                      "`cascade_step_milliseconds`"),
    "engine": Advice(NAME, "leave `auto` after `cascade tune`; name one for a GPU",
                     "`untuned` in the log; `cascade_stage_info`"),
    "precision": Advice(NAME, "set the one that clients ask for", "`PRECISION_MISMATCH`"),
    "executor": Advice(NAME, "`ray` for several devices behind one server",
                       "`UNIMPLEMENTED` where Ray is not installed"),
    "replicas": Advice("processes", "one for each device", "`cascade_replica_ready`"),
    "max_replicas": Advice("processes", "set it where load comes and goes and others use the "
                           "machines too", "`cascade_queue_seconds`"),
    "address": Advice("address", "set it to use the machines of a Ray cluster",
                      "`UNAVAILABLE` at the start"),
    "replica_gpus": Advice("GPUs", "1 for engines of GPUs", "`INTERNAL` at the start where the "
                           "cluster has too few"),
    "replica_silence_s": Advice("seconds", "raise it where machines pause",
                                "`cascade_replica_losses_total{reason=\"silent\"}`"),
    "require_signature": Advice(FILE, "set it where bundles come from elsewhere",
                                "exit code 2, or `reload` with `refused`"),
    "warm_up": Advice(SWITCH, "switch off for a faster start in tests",
                      "`warm_up_s` of `listening`"),
    "max_queued_per_stage": Advice("requests", "raise for bursts, lower for shorter waits",
                                   "`SERVER_BUSY`; `cascade_refused_total{reason=\"queue_full\"}`"),
    "max_in_flight": Advice("requests", "raise with memory, lower without",
                            "`SERVER_BUSY`; `cascade_refused_total{reason=\"in_flight\"}`"),
    "refuse_late": Advice(SWITCH, "switch off where clients prefer to try",
                          "`SERVER_BUSY` or `DEADLINE_EXCEEDED`; "
                          "`cascade_refused_total{reason=\"deadline\"}`"),
    "max_running": Advice("requests", "raise where batches stay small, lower to save memory",
                          "`cascade_running` at the limit, `cascade_queue_seconds` rising"),
    "max_waiting_between": Advice("requests", "raise for throughput, lower for latency",
                                  "`cascade_queue_depth` of the next component"),
    "max_batch_rows": Advice("rows", "set 1 to switch dynamic batching off",
                             "`cascade_batch_rows`; `rows_measured` in the log"),
    "max_batch_bytes": Advice("bytes", "lower it where memory is short", "`cascade_batch_rows`"),
    "turn_after_s": Advice("seconds", "lower it where many requests have no deadline",
                           "`cascade_queue_seconds`"),
    "caller_weights": Advice("shares", "name callers that paid for more",
                             "`cascade_queue_seconds`"),
    "context_store_bytes": Advice("bytes", "raise it if contexts are evicted early",
                                  "`UNKNOWN_CONTEXT`; `cascade_context_bytes`"),
    "context_lifetime_s": Advice("seconds", "raise it for prompts that return late",
                                 "`UNKNOWN_CONTEXT`; `cascade_contexts`"),
    "max_in_flight_bytes": Advice("bytes", "raise it with memory, or for large pictures",
                                  "`SERVER_BUSY`; `cascade_refused_total{reason=\"bytes\"}`"),
    "max_in_flight_per_identity": Advice("requests", "lower it so that one caller cannot fill it",
                                         "`SERVER_BUSY`; "
                                         "`cascade_refused_total{reason=\"identity\"}`"),
    "result_store_bytes": Advice("bytes", "raise it where clients fetch late",
                                 "`UNKNOWN_REQUEST`; `cascade_result_bytes`"),
    "result_lifetime_s": Advice("seconds", "raise it where clients fetch late",
                                "`UNKNOWN_REQUEST`; `cascade_results`"),
    "max_linger_s": Advice("seconds", "raise it for mobile networks",
                           "`cascade_stopped_total` with code `Canceled`"),
    "reader_patience_s": Advice("seconds", "raise it for slow links",
                                "`DEADLINE_EXCEEDED`; "
                                "`cascade_stopped_total{where=\"delivery\"}`"),
    "tls_cert": Advice(FILE, "set it beyond this machine", "`reload_refused` in the log"),
    "tls_key": Advice(FILE, "set it with `tls_cert`", "`reload_refused` in the log"),
    "tls_client_ca": Advice(FILE, "set it to require client certificates",
                            "failed handshakes at the client"),
    "token_keys": Advice(FILE, "set it for static tokens",
                         "`UNAUTHENTICATED`; `cascade_refused_total{reason=\"auth\"}`"),
    "jwt_keys": Advice(FILE, "set it for JWT from an identity provider",
                       "`UNAUTHENTICATED`; `cascade_refused_total{reason=\"auth\"}`"),
    "jwt_algorithm": Advice(NAME, "set it with a single key", "exit code 2 at the start"),
    "jwt_audience": Advice("text", "set it with `jwt_keys`", "`UNAUTHENTICATED`"),
    "jwt_issuer": Advice("text", "set it with `jwt_keys`", "`UNAUTHENTICATED`"),
    "anonymous": Advice(NAME, "`allow` behind a proxy that authenticates", "`UNAUTHENTICATED`"),
    "health_auth": Advice(SWITCH, "switch on where probes can send a token",
                          "`UNAUTHENTICATED` of health checks"),
    "quota_megapixels_per_minute": Advice("megapixels a minute", "set a rate limit per caller",
                                          "`QUOTA_EXCEEDED`; "
                                          "`cascade_refused_total{reason=\"quota\"}`"),
    "offer_bundle": Advice(SWITCH, "switch on where clients or other servers have no bundle",
                           "`PERMISSION_DENIED` where it is off; `bundle_file` in the log"),
    "max_bundle_downloads": Advice("downloads", "lower it where downloads take memory or network "
                                   "from requests", "`SERVER_BUSY`; `bundle_file` in the log"),
    "bundle_megabytes_per_s": Advice("MB/s", "lower it where downloads slow requests down",
                                     "`bytes_sent` of `bundle_file` over time"),
    "http": Advice("address", "set it for programs that speak OpenAI's images API",
                   "`http_port` in the log; exit code 2 at the start"),
    "insecure": Advice(SWITCH, "only behind a proxy that encrypts", "exit code 2 at the start"),
    "reflection": Advice(SWITCH, "switch on for grpcurl", "`UNIMPLEMENTED` of grpcurl"),
    "metrics_listen": Advice("address", "set it to scrape and probe",
                              "`operators_port` in the log"),
    "metrics_remote": Advice(SWITCH, "switch on for a scraper on another machine",
                             "exit code 2 at the start"),
    "stage_failures_in_row": Advice("failures", "lower it to fail over faster",
                                    "`stage_health` in the log; `cascade_stage_failures_total`"),
    "stage_probe_s": Advice("seconds", "lower it to recover faster",
                            "`cascade_stage_serving`"),
    "drain_grace_s": Advice("seconds", "raise it to the longest request",
                            "`stopped` with `forced`; exit code 1"),
    "until_stdin_closes": Advice(SWITCH, "switch on under a parent",
                                 "`stopped` in the log"),
    "log_level": Advice(NAME, "`warning` for less, `debug` for requests of the operator's port",
                        NONE),
    "log_prompts": Advice(SWITCH, "only with the callers' consent", "`prompt` in the log"),
    "traces": Advice(NAME, "`otlp` with a collector", NONE),
}  # fmt: skip
