"""No flag is taken and not obeyed: every one of every subcommand has an effect that is tried."""

# ruff: noqa: E501  an entry on one line, however long

import ast
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from cascade.bundle.default_bundle import VARIABLE
from tests.flags import bench_effects, bundle_effects, client_effects, server_effects
from tests.flags.client_effects import Effect
from tests.flags.trial import trial
from tests.flags.walk import all_flags

ROOT = Path(__file__).parents[2]
HAS_TORCH = find_spec("torch") is not None
TRAINING = ("train", "distill", "evaluate", "probe", "export", "export-phone", "weights", "data")
"""Subcommands whose effects need torch."""


def light() -> Mapping[str, Effect | str]:
    """Effects that need no torch."""
    return {
        **client_effects.EFFECTS,
        **bundle_effects.EFFECTS,
        **server_effects.EFFECTS,
        **bench_effects.EFFECTS,
    }


def torch_effects() -> Mapping[str, Effect | str]:
    """The others; none where torch is not installed."""
    if not HAS_TORCH:
        return {}
    from tests.flags import training_effects

    return training_effects.EFFECTS


WAITING = "tests/runtime_client/test_waiting.py::test_a_late_server_is_waited_for"
MANY = "tests/runtime_client/test_many_pictures.py::"
OWN = "tests/congruence/test_own_pictures.py::"
VECTORS = "tests/congruence/test_vectors.py::test_the_command_line_takes_numbers_or_a_file"
EDITS = "tests/congruence/test_edits.py::test_the_command_line_asks_as_python_does"
KEPT = "tests/congruence/test_kept_pictures.py::test_the_command_line_asks_as_python_does"
DOCTOR = "tests/runtime_client/test_doctor.py::"

TRITON = "tests/cascade/bundle/test_triton_repository.py::"
PLAN = "tests/runtime_client/test_plan_cli.py::"
PULL = "tests/runtime_client/test_bundle_pull.py::"
GATE = PULL + "test_the_gate_is_that_of_every_call"
WEB = "tests/runtime_server/test_web_page.py::"
SIDES = PULL + "test_every_way_to_choose_takes_the_same_files"

ELSEWHERE: Mapping[str, str] = {
    "web --page": WEB + "test_a_page_that_is_not_built_is_named",
    "web --listen": WEB + "test_an_address_that_is_none_is_refused",
    **{
        f"bundle {command} {name}": where
        for command in ("copy", "pull")
        for name, where in {
            "source": SIDES,
            "destination": SIDES,
            "--for": SIDES,
            "--components": SIDES,
            "--json": SIDES,
            "--cut": SIDES,
            "--here": SIDES,
            "--there": SIDES,
            "--placement": SIDES,
            "--require-signature": PULL + "test_a_signature_is_required",
        }.items()
    },
    **{
        f"bundle pull --{name}": GATE
        for name in (
            "tls",
            "ca",
            "client-cert",
            "client-key",
            "token",
            "token-file",
            "token-over-plaintext",
            "timeout",
        )
    },
    "bundle pull --wait": "tests/runtime_client/test_waiting.py::test_a_download_waits_too",
    "doctor bundle": DOCTOR + "test_no_bundle_at_all",
    "doctor --require-signature": DOCTOR + "test_a_signature_is_required",
    "doctor --server": DOCTOR + "test_a_server_with_another_bundle",
    "doctor --tls": DOCTOR + "test_the_steps_of_tls",
    "doctor --ca": DOCTOR + "test_the_steps_of_tls",
    "doctor --client-cert": DOCTOR + "test_the_steps_of_tls",
    "doctor --client-key": DOCTOR + "test_the_steps_of_tls",
    "doctor --token": DOCTOR + "test_the_steps_of_tls",
    "doctor --token-file": DOCTOR + "test_the_steps_of_tls",
    "doctor --token-over-plaintext": DOCTOR + "test_a_token_over_plaintext",
    "doctor --timeout": DOCTOR + "test_a_server_that_says_nothing",
    "doctor --wait": WAITING,
    "generate --wait": WAITING,
    "fetch --wait": WAITING,
    "cancel --wait": WAITING,
    "generate --negative": "tests/congruence/test_negative_prompts.py::test_the_command_line_says_it_and_makes_it_again",
    "generate --count": MANY + "test_every_prompt_and_index_is_a_file",
    "generate --prompts": MANY + "test_every_prompt_and_index_is_a_file",
    "generate --label": "tests/congruence/test_third_family.py::test_the_command_line_begins_with_a_label",
    "generate --picture": "tests/congruence/test_wordless.py::test_the_command_line_begins_with_a_picture",
    "generate --first-stage": "tests/congruence/test_wordless.py::test_the_command_line_begins_with_a_picture",
    **{
        f"generate --{name}": PLAN + "test_generate_explains_its_choice"
        for name in ("within", "least-bytes", "least-energy", "words-stay-here")
    },
    **{
        f"plan {name}": PLAN + test
        for test, names in {
            "test_a_plan_says_what_each_placement_would_take": (
                "prompt",
                "--bundle",
                "--server",
                "--json",
                "--least-bytes",
                "--cuts-only",
            ),
            "test_what_if": ("--what-if", "--words-stay-here"),
            "test_a_plan_follows_the_request": (
                "--set",
                "--last-stage",
                "--within",
                "--least-energy",
                "--engine",
                "--precision",
                "--threads",
            ),
            "test_the_connection_is_that_of_generate": (
                "--tls",
                "--ca",
                "--client-cert",
                "--client-key",
                "--token",
                "--token-file",
                "--token-over-plaintext",
                "--timeout",
                "--wait",
                "--require-signature",
            ),
        }.items()
        for name in names
    },
    **{
        f"export-triton {name}": TRITON + test
        for test, names in {
            "test_the_command": ("bundle", "--out", "--component", "--max-batch"),
            "test_its_flags_are_in_the_configuration": (
                "--precision",
                "--backend",
                "--device",
                "--instances",
                "--queue-delay-us",
                "--tokens",
            ),
        }.items()
        for name in names
    },
    **{
        f"plan {name}": "tests/runtime_client/test_capacity.py::test_a_server_says_what_its_runs_took"
        for name in ("--capacity", "--cut")
    },
    "upscale --wait": WAITING,
    **{f"generate --{name}": EDITS for name in ("edit", "strength", "mask", "resample", "size")},
    "generate --vector": VECTORS,
    "upscale --vector": VECTORS,
    **{f"upscale --{name}": KEPT for name in ("kept", "kept-stage", "kept-size")},
    "upscale picture": OWN + "test_files_are_read_as_they_are_seen",
    "upscale --output": OWN + "test_files_are_read_as_they_are_seen",
    "upscale --prompt": OWN + "test_the_command_line_asks_as_python_does",
    "upscale --first-stage": OWN + "test_the_command_line_asks_as_python_does",
    "upscale --last-stage": OWN + "test_the_command_line_asks_as_python_does",
    "upscale --seed": OWN + "test_the_command_line_asks_as_python_does",
    "upscale --image-index": OWN + "test_the_command_line_asks_as_python_does",
    "upscale --format": OWN + "test_the_command_line_asks_as_python_does",
    "upscale --set": OWN + "test_the_command_line_asks_as_python_does",
    "doctor --json": DOCTOR + "test_the_report_for_people",
    "build-engines bundle": "tests/cascade/commands/test_build_engines.py::test_every_component_becomes_an_engine_once",
    "build-engines --component": "tests/cascade/commands/test_build_engines.py::test_every_option_is_another_engine",
    "build-engines --precision": "tests/cascade/commands/test_build_engines.py::test_wrong_options_fail_with_one_line",
    "build-engines --cache": "tests/cascade/commands/test_build_engines.py::test_an_open_cache_is_refused",
    "build-engines --compute-capability": "tests/cascade/commands/test_build_engines.py::test_every_option_is_another_engine",
    "build-engines --max-batch": "tests/cascade/commands/test_build_engines.py::test_every_option_is_another_engine",
    "build-engines --max-tokens": "tests/cascade/commands/test_build_engines.py::test_every_option_is_another_engine",
    "build-engines --size": "tests/cascade/commands/test_build_engines.py::test_every_option_is_another_engine",
    "build-engines --workspace-mib": "tests/cascade/commands/test_build_engines.py::test_every_option_is_another_engine",
    "build-engines --json": "tests/cascade/commands/test_build_engines.py::test_the_table_says_the_same",
    **{
        f"export-phone {flag}": "tests/export/test_phone_files.py::test_ort_files_of_a_bundle_answer_as_its_graphs"
        for flag in ("bundle", "--target", "--out", "--components", "--tokens")
    },
    "weights bundle": "tests/documents/test_examples.py::test_a_command_does_what_its_document_says",
    "weights --stages": "tests/documents/test_examples.py::test_a_command_does_what_its_document_says",
    "weights --checkpoints": "tests/documents/test_examples.py::test_a_command_does_what_its_document_says",
    "export --storage": "tests/export/test_bundle_writer.py::test_a_stage_is_exported_with_its_facts",
    "export --precisions": "tests/export/test_foreign_torch.py::test_forms_and_precisions_are_written_where_they_are_asked_for",
    "export --weights": "tests/export/test_weights_beside_export.py::test_a_bundle_is_whole_and_smaller",
    "export --gpu-forms": "tests/export/test_foreign_torch.py::test_forms_and_precisions_are_written_where_they_are_asked_for",
    "export --web-forms": "tests/export/test_foreign_torch.py::test_forms_and_precisions_are_written_where_they_are_asked_for",
    "export --networks": "tests/export/test_students.py::test_which_checkpoint_is_exported",
    "export --from": "tests/export/test_foreign_torch.py::test_the_example_paints_through_the_real_split",
    "export --stages": "tests/export/test_pixel_export.py::test_checkpoints_become_a_bundle_that_draws",
    "export --upscaler": "tests/export/test_foreign_if.py::test_a_bundle_paints_what_the_pipelines_paint",
    "export --text-encoder": "tests/export/test_foreign_t5.py::test_it_stands_beside_a_user_s_own_stages",
    "export --truncated": "tests/export/test_refinement_cascade.py::test_a_wrong_line_is_refused",
    "train --loss": "tests/stages/test_refinement.py::test_the_command_trains",
    "train --augmentation": "tests/stages/test_refinement.py::test_the_command_trains",
    "export --timesteps": "tests/export/test_foreign_if.py::test_lists_of_steps_become_the_default_run",
}
"""Flags whose effect another test shows."""

UNTRIED: Mapping[str, str] = {
    "web --bundle": "needs Envoy and a page that is built; `make web-test` draws with it",
    "web --server": "as above",
    "probe --steps": "trains the styles for a minute besides; run by hand",
    "probe --data": "as above; refused where it is missing (tests/stages/test_training_commands.py)",
    "probe --checkpoints": "as above",
    "probe --threads": "as above; the function is that of `train`",
    "probe --bf16": "as above",
    "data fetch --packages": "downloads from npm's registry",
    "data prepare --packages": "downloads from npm's registry",
    "data prepare --data": "downloads from npm's registry; tests/stages/test_dataset.py prepares",
    "data prepare --large": "downloads from npm's registry; tests/stages/test_dataset.py prepares",
    "data keywords --packages": "downloads from npm's registry",
    "data keywords --out": "downloads from npm's registry",
    "data words --checkpoints": "takes minutes; tests/stages/test_word_table.py keeps a table",
    "export --checkpoints": "a quarter of an hour; tests/export exports in miniature",
    "export --out": "run by tests/documents with --from",
    "export --data": "as --checkpoints; refused where it is missing",
}
"""Flags that no test tries, each with its reason."""


@pytest.mark.torch
def test_every_flag_has_an_effect() -> None:
    """A new flag needs an entry; an entry needs its flag. With torch the subcommands of training too."""
    shown = {**light(), **torch_effects(), **ELSEWHERE, **UNTRIED}
    flags = all_flags()
    if not HAS_TORCH:
        flags = [flag for flag in flags if flag.split()[0] not in TRAINING]
        shown = {flag: how for flag, how in shown.items() if flag.split()[0] not in TRAINING}
    missing = sorted(set(flags) - set(shown))
    assert not missing, (
        f"no effect is shown of {missing}. Add to EFFECTS in tests/flags/client_effects.py "
        "(generate, fetch, cancel), bundle_effects.py, server_effects.py or training_effects.py: "
        '"COMMAND --flag": a function of a Trial that runs the command with and without the flag '
        "and asserts what differs, or the node id of a test that mentions the flag"
    )
    stale = sorted(set(shown) - set(flags))
    assert not stale, f"no subcommand has {stale} any more: take the entries away"


TRIED = {f: e for f, e in {**light(), **torch_effects()}.items() if not isinstance(e, str)}
NAMED = {
    flag: how
    for flag, how in {**light(), **torch_effects(), **ELSEWHERE}.items()
    if isinstance(how, str)
}


def marked(flag: str) -> object:
    """The flag as a case; those of training are the ones to run where torch is."""
    marks = [pytest.mark.torch] if flag.split(maxsplit=1)[0] in TRAINING else []
    return pytest.param(flag, marks=marks)


@pytest.mark.parametrize("flag", [marked(flag) for flag in TRIED])
def test_a_flag_has_its_effect(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that the table names for it passes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if flag.split(maxsplit=1)[0] in TRAINING:
        from stages.reference import PRESETS
        from tests.flags.training_effects import TINY

        for name, preset in TINY.items():
            monkeypatch.setitem(PRESETS, name, preset)
    with trial(tmp_path) as surroundings:
        TRIED[flag](surroundings)


@pytest.mark.parametrize("flag", NAMED)
def test_a_test_that_shows_a_flag_is_there(flag: str) -> None:
    """Its file has a test of that name, and speaks of the flag or of its field."""
    path, _, name = NAMED[flag].partition("::")
    text = (ROOT / path).read_text()
    tests = {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)}
    assert name in tests
    word = flag.rsplit(maxsplit=1)[-1].removeprefix("--")
    folder = "".join(p.read_text() for p in (ROOT / path).parent.glob("*.py"))
    assert re.search(rf"\b{word}\b|\b{word.replace('-', '_')}\b", folder)
