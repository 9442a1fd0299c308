"""Where each setting of `cascade serve` is shown to be obeyed.

Every flag becomes the field of its name (shown for each in `test_flags`); what a field does is
shown by the test named here, which must mention it. Settings that a tiny command can show are
tried here themselves.
"""

# ruff: noqa: E501  a test's name on one line, however long

import logging
from collections.abc import Callable, Mapping

from runtime_server.batching.role_key import RoleKey
from runtime_server.cli import read_command_line
from runtime_server.core import Core, load_core
from tests.flags.client_effects import Effect
from tests.flags.trial import Trial
from tests.flags.walk import parsed


def config(t: Trial) -> None:
    """The file's settings are taken, and a wrong one is named."""
    file = t.folder / "server.toml"
    file.write_text(f'bundle = "{t.bundle.folder}"\ncut = 3\n')
    assert "cut = 3" in t.ok("serve", "--config", file, "--print-config").out
    file.write_text("cutt = 3\n")
    assert "did you mean cut" in t.refused("serve", "--config", file, "--print-config")


def print_config(t: Trial) -> None:
    """A file, and no server; not together with `--dry-run`."""
    assert "bundle = " in t.ok("serve", "--print-config", "--bundle", "b").out
    both = t.refused("serve", "--print-config", "--dry-run")
    assert "not allowed with argument" in both


def dry_run(t: Trial) -> None:
    """What it would be, and no server."""
    out = t.ok("serve", "--dry-run", "--bundle", t.bundle.folder, "--threads", 1).out
    assert t.bundle.bundle_id in out


def dry_run_says(*flags: object, says: str) -> Effect:
    """The dry run with the flag says so, and without it does not."""

    def effect(t: Trial) -> None:
        base = ("serve", "--dry-run", "--threads", 1, "--bundle", t.bundle.folder)
        assert says in t.ok(*base, *flags).out
        assert says not in t.ok(*base).out

    return effect


def insecure(t: Trial) -> None:
    """Plaintext beyond this machine is refused without it; beside TLS it is a contradiction."""
    base = ("serve", "--print-config", "--bundle", "b", "--anonymous", "allow")
    far = ("--listen", "0.0.0.0:1")
    assert "--insecure" in t.refused(*base, *far)
    t.ok(*base, *far, "--insecure")
    tls = ("--tls-cert", "c.pem", "--tls-key", "k.pem")
    assert "insecure: it allows plaintext" in t.refused(*base, *far, *tls, "--insecure")


def metrics_remote(t: Trial) -> None:
    """The operator's port beyond this machine is refused without it; alone it means nothing."""
    base = ("serve", "--print-config", "--bundle", "b")
    far = ("--metrics-listen", "0.0.0.0:1")
    assert "--metrics-remote" in t.refused(*base, *far)
    t.ok(*base, *far, "--metrics-remote")
    assert "metrics_remote: it opens" in t.refused(*base, "--metrics-remote")


def of_replicas(flag: str, value: object) -> Effect:
    """A setting of replicas is refused without them, and taken with them."""

    def effect(t: Trial) -> None:
        base = ("serve", "--print-config", "--bundle", "b", flag, value)
        assert "it needs --executor ray" in t.refused(*base)
        assert 'executor = "ray"' in t.ok(*base, "--executor", "ray").out

    return effect


def require_signature(t: Trial) -> None:
    """An unsigned bundle is not served."""
    base = ("serve", "--dry-run", "--threads", 1, "--bundle", t.bundle.folder)
    key = ("--require-signature", f"{t.key}.pub")
    t.refused(*base, *key)
    t.ok("sign", t.bundle.folder, "--key", t.key)
    t.ok(*base, *key)


def log_level(t: Trial) -> None:
    """The package's logger takes it."""
    t.ok("serve", "--dry-run", "--threads", 1, "--bundle", t.bundle.folder, "--log-level", "error")
    assert logging.getLogger("runtime_server").getEffectiveLevel() == logging.ERROR
    t.ok("serve", "--dry-run", "--threads", 1, "--bundle", t.bundle.folder)
    assert logging.getLogger("runtime_server").getEffectiveLevel() == logging.INFO


def in_core(flag: str, value: object, found: Callable[[Core], object], wanted: object) -> Effect:
    """The running core has the value where it is obeyed; the decision itself is a tested function.

    Args:
        flag: of `cascade serve`.
        value: its value on the command line.
        found: what stands in the core.
        wanted: what should.
    """

    def effect(t: Trial) -> None:
        words = (
            "--bundle",
            t.bundle.folder,
            "--threads",
            1,
            flag,
            *([] if value is None else [value]),
        )
        settings = read_command_line(parsed("serve", *[str(word) for word in words]))
        core = load_core(settings, None)
        try:
            assert found(core) == wanted
        finally:
            core.close()

    return effect


def threads(core: Core) -> set[int]:
    """Threads of the engines."""
    return {choice.threads for choice in core.plan.choices.values()}


SERVER, FAULTS, ATTACKS = "tests/runtime_server/", "tests/faults/", "tests/attacks/"
EFFECTS: Mapping[str, Effect | str] = {
    "serve --config": config,
    "serve --print-config": print_config,
    "serve --dry-run": dry_run,
    "serve --bundle": dry_run,
    "serve --cut": f"{SERVER}test_service.py::test_a_server_with_a_cut_hosts_only_the_rest",
    "serve --components": f"{SERVER}test_service.py::test_a_server_of_named_components_hosts_those_alone",
    "serve --offer-bundle": "tests/runtime_client/test_bundle_pull.py::test_a_server_offers_nothing_unless_it_is_told_to",
    "serve --max-bundle-downloads": "tests/runtime_client/test_bundle_pull.py::test_more_downloads_than_are_allowed_are_told_when_to_come_back",
    "serve --bundle-megabytes-per-s": "tests/runtime_client/test_bundle_pull.py::test_a_download_is_no_faster_than_it_is_set",
    "serve --listen": f"{SERVER}test_process.py::test_sigterm_drains",
    "serve --engine": dry_run_says("--engine", "openvino", says="openvino"),
    "serve --precision": dry_run_says("--precision", "base=int8", says="int8"),
    "serve --executor": of_replicas("--replicas", 2),
    "serve --replicas": of_replicas("--replicas", 2),
    "serve --max-replicas": of_replicas("--max-replicas", 2),
    "serve --address": of_replicas("--address", "10.0.0.1:6379"),
    "serve --replica-gpus": of_replicas("--replica-gpus", 1),
    "serve --replica-silence-s": f"{SERVER}test_replicated.py::test_a_silent_replica_is_given_up",
    "serve --require-signature": require_signature,
    "serve --warm-up": dry_run_says("--no-warm-up", says="not tried"),
    "serve --insecure": insecure,
    "serve --metrics-remote": metrics_remote,
    "serve --threads": in_core("--threads", 3, threads, {3}),
    "serve --refuse-late": in_core(
        "--no-refuse-late",
        None,
        lambda core: int(core.executor.workers._queue._limits.refuse_late),
        0,
    ),
    "serve --max-waiting-between": in_core(
        "--max-waiting-between",
        7,
        lambda core: core.executor.workers._queue._limits.max_waiting_between,
        7,
    ),
    "serve --caller-weights": in_core(
        "--caller-weights",
        "ann=2",
        lambda core: dict(core.executor.workers._queue._limits.caller_weights),
        {"ann": 2.0},
    ),
    "serve --turn-after-s": in_core(
        "--turn-after-s", 7, lambda core: core.executor.workers._queue._limits.max_queue_age_s, 7.0
    ),
    "serve --max-batch-bytes": in_core(
        "--max-batch-bytes",
        9,
        lambda core: core.executor.batcher.limits.present[RoleKey(1)].max_bytes,
        9,
    ),
    "serve --max-batch-rows": in_core(
        "--max-batch-rows",
        3,
        lambda core: core.executor.batcher.limits.present[RoleKey(1)].max_rows,
        3,
    ),
    "serve --max-queued-per-stage": f"{FAULTS}test_overload.py::test_a_queue_holds_its_limit_and_not_one_more",
    "serve --max-in-flight": f"{SERVER}test_bounds.py::test_who_is_refused_for_want_of_room_is_not_read",
    "serve --max-running": f"{SERVER}test_cancel.py::test_a_full_queue_answers_at_once_with_a_delay",
    "serve --context-store-bytes": f"{ATTACKS}test_limits.py::test_what_does_not_fit_is_refused",
    "serve --context-lifetime-s": f"{SERVER}test_disconnects.py::test_kept_results_are_given_back_without_another_call",
    "serve --max-in-flight-bytes": f"{SERVER}test_bounds.py::test_bytes_up_to_the_bound_are_let_in_and_one_less_is_refused",
    "serve --max-in-flight-per-identity": f"{SERVER}test_bounds.py::test_one_caller_does_not_take_the_place_of_another",
    "serve --result-store-bytes": f"{SERVER}test_disconnects.py::test_a_server_without_room_for_results_keeps_none",
    "serve --result-lifetime-s": f"{SERVER}test_disconnects.py::test_kept_results_are_given_back_without_another_call",
    "serve --max-linger-s": f"{SERVER}test_disconnects.py::test_the_server_shortens_the_lingering",
    "serve --reader-patience-s": f"{SERVER}test_slow_readers.py::test_who_reads_nothing_is_cut_off_and_its_result_kept",
    "serve --tls-cert": f"{ATTACKS}test_tls_matrix.py::test_who_reaches_whom",
    "serve --tls-key": f"{ATTACKS}test_tls_matrix.py::test_who_reaches_whom",
    "serve --tls-client-ca": f"{ATTACKS}test_tls_matrix.py::test_who_reaches_whom",
    "serve --token-keys": f"{ATTACKS}test_auth_matrix.py::test_who_is_let_in",
    "serve --jwt-keys": f"{ATTACKS}test_auth_matrix.py::test_who_is_let_in",
    "serve --jwt-algorithm": f"{ATTACKS}test_auth_matrix.py::test_who_is_let_in",
    "serve --jwt-audience": f"{ATTACKS}test_auth_matrix.py::test_who_is_let_in",
    "serve --jwt-issuer": f"{ATTACKS}test_auth_matrix.py::test_who_is_let_in",
    "serve --anonymous": f"{SERVER}test_authenticator.py::test_everything_that_is_configured_is_required",
    "serve --health-auth": f"{ATTACKS}test_auth_matrix.py::test_health_has_a_policy_of_its_own",
    "serve --quota-megapixels-per-minute": f"{SERVER}test_quota.py::test_a_caller_over_quota_is_told_when_to_come_back",
    "serve --reflection": f"{ATTACKS}test_auth_matrix.py::test_reflection_is_behind_the_gate",
    "serve --http": f"{SERVER}test_http_door.py::test_beyond_this_machine_it_wants_tls_as_grpc_does",
    "serve --metrics-listen": f"{SERVER}test_reload.py::test_the_operators_port_is_for_this_machines_programs",
    "serve --stage-failures-in-row": f"{SERVER}test_stage_health.py::test_a_component_that_keeps_failing_is_not_serving_until_it_works",
    "serve --stage-probe-s": f"{SERVER}test_stage_health.py::test_a_component_that_keeps_failing_is_not_serving_until_it_works",
    "serve --drain-grace-s": f"{FAULTS}test_lifecycle.py::test_the_grace_of_a_drain_is_bounded",
    "serve --until-stdin-closes": f"{SERVER}test_process.py::test_a_private_child_ends_with_its_parent",
    "serve --log-level": log_level,
    "serve --log-prompts": f"{SERVER}test_process.py::test_a_prompt_is_logged_only_when_asked_for",
    "serve --traces": f"{SERVER}test_traces.py::test_log_lines_carry_the_trace",
}
