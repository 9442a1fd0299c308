"""Which test shows what each flag of `cascade bench` does: their values, and what these come to."""

from collections.abc import Mapping

CLI = "tests/bench/test_cli.py::"
PLAN, LINK, CLIENT = (
    CLI + f"test_flags_become_{what}" for what in ("a_plan", "a_link", "a_client")
)
RECORD = CLI + "test_a_record_describes_itself"

RUN: Mapping[str, tuple[str, ...]] = {
    "tests/bench/test_against.py::test_a_function_takes_turns": ("against",),
    "tests/bench/test_against_diffusers.py::test_steps_are_those_of_the_first_stage_unless_told": (
        "against-steps",
    ),
    PLAN: (
        "load", "arrivals", "rate", "shape", "trace", "arrival-seed", "clients", "requests",
        "seconds", "warm-up", "unloaded", "objective", "cold", "repeats", "check",
    ),
    LINK: ("rtt", "down", "up", "loss", "stalls", "link-seed"),
    CLIENT: (
        "server", "tls", "ca", "client-cert", "client-key", "token", "token-file",
        "token-over-plaintext", "timeout", "wait", "threads", "engine", "precision",
        "require-signature",
    ),
    RECORD: ("output", "bundle", "quiet"),
    CLI + "test_the_hops_are_those_of_the_work_and_add_up": ("write",),
    CLI + "test_flags_place_the_client": (
        "cut", "here", "there", "placement", "within", "least-bytes", "least-energy",
        "words-stay-here",
    ),
    "tests/bench/test_workload.py::test_a_file_may_say_the_seeds": ("prompts",),
    "tests/bench/test_workload.py::test_the_built_in_prompts_never_repeat_a_picture": ("seed",),
}  # fmt: skip
"""By test: the flags of `bench run`."""

AXES = "tests/bench/test_grid.py::test_flags_become_axes"
SWEPT = (
    "cuts", "placements", "rtts", "rates", "loads", "loaded-links", "loaded-cuts", "requests",
    "loaded-requests", "seconds",
)  # fmt: skip
WEATHER = "tests/bench/test_grid.py::test_every_link_is_measured_in_every_weather"
BUDGET = "tests/bench/test_grid_budget.py::test_what_there_is_no_time_for_is_told"
COMPARED = "tests/bench/test_compare.py::test_the_command_pairs_what_both_have_finished"
REPORTED = "tests/bench/test_grid.py::test_the_report_is_one_file"
SHARED = (RECORD, CLIENT, *list(RUN)[-2:])
"""Tests of the flags that `run` and `grid` have in common."""

EFFECTS: Mapping[str, str] = {
    **{f"bench run --{flag}": test for test, flags in RUN.items() for flag in flags},
    **{f"bench grid --{flag}": test for test in SHARED for flag in RUN[test]},
    **{f"bench grid --{flag}": AXES for flag in SWEPT},
    "bench grid --minutes": BUDGET,
    **{f"bench grid --{flag}": WEATHER for flag in ("losses", "stalls")},
    **{f"bench compare {name}": COMPARED for name in ("first", "second")},
    **{f"bench report {name}": REPORTED for name in ("grid", "--output")},
}
