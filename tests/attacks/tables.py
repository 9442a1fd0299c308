"""Make the tables of the pages about limits and attacks from the lists that the tests run.

    python -m tests.attacks.tables            # write
    python -m tests.attacks.tables --check

Every row names its test. Knows lists and Markdown; what a page writes around its tables is its own.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.attacks import test_auth_matrix as auth
from tests.attacks import test_bundle_attacks as bundles
from tests.attacks import test_signatures as signatures
from tests.attacks import test_tls_matrix as tls
from tests.attacks import test_weight_attacks as weights
from tests.attacks import test_wire_attacks as messages
from tests.attacks.limits import Limit
from tests.attacks.limits_of_files import FILES
from tests.attacks.limits_of_load import LOAD
from tests.attacks.limits_of_messages import MESSAGES

DOCS = Path(__file__).parents[2] / "docs"
LIMITS: list[Limit] = [*MESSAGES, *LOAD, *FILES]

SERVER_TESTS = "tests/runtime_server"
SHOWN_ELSEWHERE = {
    "cascade/vector_values.py:MAX_VECTORS": (
        "tests/congruence/test_vectors.py",
        "test_numbers_that_are_none_are_refused",
    ),
    "cascade/vector_values.py:MAX_VECTOR_WIDTH": (
        "tests/congruence/test_vectors.py",
        "test_numbers_that_are_none_are_refused",
    ),
    "runtime_server/http_door/door.py:MAX_BODY_BYTES": (
        "tests/attacks/test_http_attacks.py",
        "test_a_body_over_the_limit",
    ),
    "runtime_server/http_door/door.py:MAX_EDIT_BYTES": (
        "tests/attacks/test_http_attacks.py",
        "test_a_form_over_the_limit",
    ),
    "runtime_server/http_door/listener.py:MAX_CONNECTIONS": (
        "tests/attacks/test_http_attacks.py",
        "test_more_connections_than_the_limit",
    ),
    "runtime_server/http_door/image_ask.py:MAX_STYLE": (
        "tests/attacks/test_http_attacks.py",
        "test_a_text_without_end",
    ),
    "runtime_server/http_door/image_ask.py:MAX_WORD": (
        "tests/attacks/test_http_attacks.py",
        "test_a_text_without_end",
    ),
    "runtime_server/http_door/image_ask.py:MAX_PICTURES": (
        "tests/runtime_server/test_http_door.py",
        "test_a_wrong_field_is_named",
    ),
    "runtime_server/http_door/image_ask.py:MAX_PARTIAL": (
        "tests/runtime_server/test_http_door.py",
        "test_a_wrong_field_is_named",
    ),
    "runtime_server/http_door/image_form.py:MAX_PARTS": (
        "tests/runtime_server/test_http_edits.py",
        "test_a_form_that_is_wrong",
    ),
    "runtime_server/http_door/own_picture.py:MAX_SIDE": (
        "tests/runtime_server/test_http_edits.py",
        "test_a_form_that_is_wrong",
    ),
    "runtime_client/config.py:MAX_TIMEOUT_S": (
        "tests/runtime_client/test_bare_environment.py",
        "test_a_time_that_no_clock_has_is_refused",
    ),
    "runtime_client/cli/picture_format.py:MAX_FILE_BYTES": (
        "tests/runtime_client/test_picture_metadata.py",
        "test_a_file_is_read_up_to_a_size",
    ),
    "runtime_client/cli/picture_format.py:MAX_TEXT": (
        "tests/runtime_client/test_picture_metadata.py",
        "test_a_text_is_read_up_to_a_length",
    ),
    "runtime_server/telemetry/log_rate_limit.py:MAX_KINDS": (
        "tests/runtime_server/test_log_rate_limit.py",
        "test_kinds_made_up_without_end_share_one_budget",
    ),
    "max_bundle_downloads": (
        "tests/runtime_client/test_bundle_pull.py",
        "test_more_downloads_than_are_allowed_are_told_when_to_come_back",
    ),
    "max_batch_bytes": (
        "tests/runtime_server/test_batch_policy.py",
        "test_a_run_keeps_the_caps_and_the_shapes",
    ),
    "max_batch_rows": (
        "tests/runtime_server/test_batch_policy.py",
        "test_a_run_keeps_the_caps_and_the_shapes",
    ),
    "max_replicas": (
        "tests/runtime_server/test_scaling.py",
        "test_a_decision_is_one_more_or_one_fewer",
    ),
    "max_running": (
        "tests/runtime_server/test_queue_policy.py",
        "test_no_more_begin_than_share_a_run_or_have_a_thread",
    ),
    "max_waiting_between": (
        "tests/runtime_server/test_queue_policy.py",
        "test_a_component_is_not_begun_while_too_many_wait_behind_it",
    ),
    "result_store_bytes": (
        f"{SERVER_TESTS}/test_budgeted_store.py",
        "test_the_budget_is_never_exceeded",
    ),
    "max_linger_s": (
        f"{SERVER_TESTS}/test_disconnects.py",
        "test_the_server_shortens_the_lingering",
    ),
    "reader_patience_s": (
        f"{SERVER_TESTS}/test_slow_readers.py",
        "test_who_reads_nothing_is_cut_off_and_its_result_kept",
    ),
    "runtime_server/admission/quota.py:MAX_IDENTITIES": (
        f"{SERVER_TESTS}/test_quota.py",
        "test_memory_is_bounded",
    ),
    "runtime_client/remote/retry.py:MAX_RESUMES": (
        "tests/runtime_client/test_resuming.py",
        "test_a_connection_that_keeps_breaking_is_given_up",
    ),
    "wire/limits.py:MAX_FRAGMENT_BYTES": (
        "tests/congruence/test_large_pictures.py",
        "test_fragments_of_no_request_are_refused",
    ),
    "cascade/diffusion/betas.py:MAX_TRAIN_STEPS": (
        "tests/cascade/diffusion/test_schedule_formulas.py",
        "test_numbers_that_make_no_schedule_are_refused",
    ),
    "cascade/bundle/wire_limits.py:MAX_RESOLUTION": (
        "tests/cascade/bundle/test_wire_limits.py",
        "test_within_the_limits_nothing_is_refused",
    ),
    "cascade/bundle/wire_limits.py:MAX_TENSOR_BYTES": (
        "tests/cascade/bundle/test_wire_limits.py",
        "test_a_latent_fills_a_message_and_no_more",
    ),
    "runtime_server/app/server.py:MIN_PING_INTERVAL_MS": (
        "tests/runtime_client/test_transport.py",
        "test_a_dead_link_is_found_in_15_s_and_servers_permit_the_pings",
    ),
    "cascade/weights/source.py:MAX_MESSAGE_BYTES": (
        "tests/cascade/test_weights_beside.py",
        "test_an_engine_that_copies_refuses_what_protobuf_cannot_hold",
    ),
    "cascade/codecs/onnx_files.py:MAX_DEPTH": (
        "tests/cascade/codecs/test_onnx_files.py",
        "test_bottomless_graphs_are_refused",
    ),
}
"""Limits whose two sides are another test's: they need a clock of their own."""


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def limits() -> Iterable[str]:
    """What is bounded, and what happens beyond."""
    yield row("what", "bound", "set in", "beyond it", "test")
    yield row(*["---"] * 5)
    for limit in LIMITS:
        where = ", ".join(f"`{setter.replace(':', ' ')}`" for setter in limit.set_by)
        yield row(limit.what, limit.bound, where, f"`{limit.refused}`", f"`{limit.name}`")


def tls_matrix() -> Iterable[str]:
    """Who reaches whom."""
    yield row("port", "caller", "outcome", "test")
    yield row(*["---"] * 4)
    for cell in tls.CELLS:
        outcome = "served" if cell.reached else "`TRANSPORT_ERROR`, nothing sent"
        yield row(tls.PORTS[cell.port], cell.caller, outcome, f"`{cell.name}`")


def auth_matrix() -> Iterable[str]:
    """Who is let in."""
    yield row("server", "token", "outcome", "test")
    yield row(*["---"] * 4)
    for cell in auth.CELLS:
        outcome = "let in" if cell.let_in else "`UNAUTHENTICATED`"
        yield row(auth.SERVERS[cell.server], cell.words, outcome, f"`{cell.name}`")


def message_attacks() -> Iterable[str]:
    """Malformed messages and their answers."""
    yield row("test", "call", "gRPC code", "reason", "field")
    yield row(*["---"] * 5)
    for attack in (*messages.ATTACKS, *messages.LATENTS):
        code, reason = attack.answer
        yield row(f"`{attack.name}`", attack.method, code, f"`{reason}`", f"`{attack.field}`")


def bundle_attacks() -> Iterable[str]:
    """Altered bundles and the error that refuses each."""
    yield row("test", "what is altered", "error")
    yield row(*["---"] * 3)
    for attack, error in bundles.ATTACKS.items():
        yield row(f"`{attack.__name__}`", first_line(attack), f"`{error.__name__}`")


def weight_attacks() -> Iterable[str]:
    """Altered weights beside the graphs; every one is refused."""
    yield row("test", "what is altered")
    yield row(*["---"] * 2)
    for attack in weights.ATTACKS:
        yield row(f"`{attack.__name__}`", first_line(attack))


def signature_attacks() -> Iterable[str]:
    """Altered signatures; every one is refused."""
    yield row("test", "what is altered")
    yield row(*["---"] * 2)
    for attack, _ in signatures.ATTACKS:
        yield row(f"`{attack.__name__}`", first_line(attack))


def first_line(attack: Callable[..., None]) -> str:
    """What a function's docstring begins with, without its full stop."""
    return (attack.__doc__ or "").splitlines()[0].removesuffix(".")


TABLES: dict[str, tuple[str, Callable[[], Iterable[str]]]] = {
    "limits": ("reference/limits.md", limits),
    "tls": ("evidence/tls-matrix.md", tls_matrix),
    "auth": ("evidence/tls-matrix.md", auth_matrix),
    "messages": ("evidence/attacks.md", message_attacks),
    "bundles": ("evidence/attacks.md", bundle_attacks),
    "weights": ("evidence/attacks.md", weight_attacks),
    "signatures": ("evidence/attacks.md", signature_attacks),
}
"""By name: the page below docs/ that has the table, and what makes it."""


def pages() -> list[Path]:
    """Every page that has a table."""
    return [DOCS / name for name in dict.fromkeys(page for page, _ in TABLES.values())]


def with_tables(page: Path) -> str:
    """A page's text with every table of its own made anew.

    Raises:
        ValueError: the page has no place for a table, or two.
    """
    text = page.read_text()
    for name, (where, make) in TABLES.items():
        if DOCS / where != page:
            continue
        begin, end = f"<!-- {name}: made by tests.attacks.tables -->", f"<!-- end {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{page} needs one place for the table {name}")
        table = "\n".join([begin, "", *make(), "", end])
        text = pattern.sub(lambda _, table=table: table, text)
    return text


def main() -> int:
    """Write, or say whether there would be something to write."""
    made = {page: with_tables(page) for page in pages()}
    stale = [page for page, text in made.items() if page.read_text() != text]
    if "--check" not in sys.argv:
        for page in stale:
            page.write_text(made[page])
        return 0
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
