"""Another bundle while the server runs: taken by new requests alone, or refused without a trace."""

import gc
import hashlib
import json
import shutil
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core, load_core
from runtime_server.lifecycle.reload import Reloader, check_same_cut
from runtime_server.runtime.warm_up import warm_up
from runtime_server.telemetry.server_events import ignore
from tests.support.manifests import square, stages_of, with_stages
from tests.support.serving import (
    PROMPT,
    RunningServer,
    ask,
    child_server,
    connect,
    details_of,
    local_results,
    pixels,
    request_message,
    results_of,
    running,
    wait_until,
)
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the same components and another id."""
    return write_tiny_bundle(tmp_path_factory.mktemp("other") / "bundle", steps=2)


@dataclass
class Written:
    """A configuration that an operator may change between start and reload."""

    config: ServerConfig

    def read(self) -> ServerConfig:
        """As it is now."""
        return self.config


@contextmanager
def reloadable(bundle: Bundle) -> Iterator[tuple[RunningServer, Reloader, Written]]:
    """A server, its reloader, and the configuration that the reloader reads."""
    with running(bundle) as server:
        config = server.core.config
        written = Written(config)

        def load(config: ServerConfig) -> Core:
            return load_core(config, warm_up=warm_up)

        reloader = Reloader(server.server.generations, config, written.read, load, ignore)
        yield server, reloader, written


def prompt_message(bundle: Bundle, request_id: str, **options: pb.StageOptions) -> Any:
    """A request for the whole cascade."""
    return request_message(
        bundle, request_id=request_id, prompt=pb.PromptStart(prompt=PROMPT), options=options
    )


def expected_picture(bundle: Bundle, steps: int | None = None) -> Any:
    """What the last component must make."""
    options = {"sr32": DiffusionOptions(steps=steps)}
    image = local_results(bundle, GenerateRequest(prompt=PROMPT, options=options))["sr32"]
    return image.handoff.image


def test_old_requests_finish_on_the_old_bundle_and_new_ones_take_the_new(
    slow_bundle: Bundle, bundle: Bundle
) -> None:
    """Both get the picture of their own bundle; then the old one is gone from memory."""
    with reloadable(slow_bundle) as (server, reloader, written), connect(server.address) as caller:
        old_core = weakref.ref(server.core)
        server.core = None  # type: ignore[assignment]
        call = caller.generate(prompt_message(slow_bundle, "old", sr32=pb.StageOptions(steps=120)))
        next(call)
        written.config = replace(written.config, bundle=bundle.folder)
        answer = server.run(reloader.reload())
        assert (answer.outcome, answer.bundle_id) == ("reloaded", bundle.bundle_id)
        assert len(server.server.generations.all) == 2
        assert caller.server_info().bundle_id == bundle.bundle_id
        new = results_of(caller.generate(prompt_message(bundle, "new")))
        assert np.array_equal(pixels(new["sr32"].image), expected_picture(bundle))
        with pytest.raises(grpc.RpcError) as refused:
            list(caller.generate(prompt_message(slow_bundle, "late")))
        assert details_of(refused.value)[:2] == ("FAILED_PRECONDITION", "BUNDLE_MISMATCH")
        old = results_of(call)
        assert np.array_equal(pixels(old["sr32"].image), expected_picture(slow_bundle, 120))
        wait_until(lambda: len(server.server.generations.all) == 1)
        gc.collect()
        wait_until(lambda: old_core() is None)


def remove_a_file(folder: Path) -> None:
    """A file that the manifest lists is missing."""
    (folder / "sr16.onnx").unlink()


def change_a_byte(folder: Path) -> None:
    """A file is not what its hash says."""
    path = folder / "sr16.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def remove_the_manifest(folder: Path) -> None:
    """There is no bundle."""
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove_a_file, "missing"),
        (change_a_byte, "sha256"),
        (remove_the_manifest, "manifest"),
        (shutil.rmtree, "not a folder"),
    ],
)
def test_a_bad_bundle_changes_nothing(
    damage: Any, says: str, bundle: Bundle, other: Bundle, tmp_path: Path
) -> None:
    """The answer says why; the old bundle goes on, alone."""
    folder = tmp_path / "bad"
    shutil.copytree(other.folder, folder)
    damage(folder)
    refused_and_unchanged(bundle, folder, says)


def test_a_graph_that_cannot_be_loaded_changes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """Also where every hash is right."""
    folder = write_tiny_bundle(tmp_path / "garbage").folder
    garble(folder, "sr16.onnx")
    refused_and_unchanged(bundle, folder, "")


def test_a_bundle_whose_first_hosted_component_starts_elsewhere_is_refused(
    bundle: Bundle,
) -> None:
    """Devices would send what does not fit."""
    base, _, sr32 = stages_of(bundle.manifest)
    coarser = with_stages(bundle.manifest, (replace(base, makes=square(16)), sr32))
    check_same_cut(bundle.manifest, coarser, 1)
    with pytest.raises(
        InvalidRequest, match="embeddings of width 8 and a picture of 16x16, the present one"
    ):
        check_same_cut(bundle.manifest, coarser, 2)


def garble(folder: Path, name: str) -> None:
    """Put bytes that are no graph into a bundle, with a manifest that lists them truly."""
    data = b"this is no graph, whatever its name says"
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["name"] == name:
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            entry["size_bytes"] = len(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    open_bundle(folder)


def refused_and_unchanged(bundle: Bundle, folder: Path, says: str) -> None:
    """A reload of that folder is refused, and the bundle still makes its picture."""
    with reloadable(bundle) as (server, reloader, written), connect(server.address) as caller:
        written.config = replace(written.config, bundle=folder)
        answer = server.run(reloader.reload())
        assert answer.outcome == "refused"
        assert answer.bundle_id == bundle.bundle_id
        assert says in answer.message
        assert answer.message
        assert len(server.server.generations.all) == 1
        assert server.server.generations.present.core is server.core
        results = results_of(caller.generate(prompt_message(bundle, "after")))
        assert np.array_equal(pixels(results["sr32"].image), expected_picture(bundle))


def test_the_same_bundle_again_is_left_alone(bundle: Bundle) -> None:
    """And settings that need a restart are named."""
    with reloadable(bundle) as (server, reloader, written):
        written.config = replace(written.config, max_in_flight=3)
        answer = server.run(reloader.reload())
        assert (answer.outcome, answer.need_restart) == ("unchanged", ("max_in_flight",))
        assert server.server.generations.present.core is server.core


def test_what_a_caller_has_used_of_its_quota_outlives_the_bundle(
    bundle: Bundle, other: Bundle
) -> None:
    """A reload is no fresh start for callers."""
    with reloadable(bundle) as (server, reloader, written):
        quota = server.requests.quota
        written.config = replace(written.config, bundle=other.folder)
        assert server.run(reloader.reload()).outcome == "reloaded"
        assert server.requests.quota is quota


def test_a_process_reloads_by_signal_and_by_the_operators_port(
    bundle: Bundle, other: Bundle, tmp_path: Path
) -> None:
    """The file of --config is read again; a bad one is refused in the log and in the answer."""
    file = tmp_path / "server.toml"
    listen = 'listen = "127.0.0.1:0"\nmetrics_listen = "127.0.0.1:0"\nthreads = 1\n'

    def write(folder: Path) -> None:
        file.write_text(f"bundle = {json.dumps(str(folder))}\n{listen}")

    write(bundle.folder)
    with child_server(None, "--config", str(file)) as (child, line):
        port = json.loads(line())
        assert port["event"] == "operators_port"
        url = port["address"]
        started = json.loads(line())
        assert (started["event"], started["bundle_id"]) == ("listening", bundle.bundle_id)
        assert ask(url, "/readyz") == (200, "ready\n")
        write(other.folder)
        child.send_signal(signal.SIGHUP)
        event = json.loads(line())
        assert (event["event"], event["outcome"]) == ("reload", "reloaded")
        assert json.loads(line())["event"] == "bundle_left"
        with connect(started["address"]) as caller:
            assert caller.server_info().bundle_id == other.bundle_id
        write(tmp_path / "nowhere")
        status, body = ask(url, "/reload", "POST")
        assert status == 422
        assert json.loads(body)["outcome"] == "refused"
        assert "not a folder" in json.loads(body)["message"]
        refusal = json.loads(line())
        assert (refusal["level"], refusal["bundle_id"]) == ("error", other.bundle_id)
        write(bundle.folder)
        status, body = ask(url, "/reload", "POST")
        assert (status, json.loads(body)["bundle_id"]) == (200, bundle.bundle_id)
        metrics = ask(url, "/metrics")[1]
        for outcome, count in (("reloaded", 2), ("refused", 1)):
            assert f'cascade_reloads_total{{outcome="{outcome}"}} {count}.0' in metrics
        child.terminate()
        assert child.wait(timeout=120) == 0


def test_the_operators_port_is_for_this_machines_programs(bundle: Bundle) -> None:
    """A page in a browser cannot reload; unknown paths and methods are refused."""
    options = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--threads", "1")
    with child_server(bundle.folder, *options) as (child, line):
        url = json.loads(line())["address"]
        assert json.loads(line())["event"] == "listening"
        assert ask(url, "/livez") == (200, "alive\n")
        assert ask(url, "/reload", "POST", Origin="https://example.org")[0] == 403
        assert ask(url, "/reload")[0] == 404
        assert ask(url, "/", "POST")[0] == 404
        assert ask(url, "/metrics", "DELETE")[0] == 501
        status, body = ask(url, "/reload", "POST")
        assert (status, json.loads(body)["outcome"]) == (200, "unchanged")
        child.terminate()
        assert child.wait(timeout=120) == 0


def test_requests_are_found_across_a_reload_of_the_same_bundle(slow_bundle: Bundle) -> None:
    """A duplicate joins the one that runs in the old generation, and what is kept stays kept."""
    with reloadable(slow_bundle) as (server, reloader, written), connect(server.address) as caller:
        done = prompt_message(slow_bundle, "done", sr32=pb.StageOptions(steps=1))
        list(caller.generate(done))
        running_one = prompt_message(slow_bundle, "runs", sr32=pb.StageOptions(steps=400))
        call = caller.generate(running_one)
        next(call)
        written.config = replace(written.config, threads=2)
        assert server.run(reloader.reload()).outcome == "reloaded"
        assert len(server.server.generations.all) == 2
        duplicate = caller.generate(running_one)
        assert next(duplicate).accepted.joined
        assert next(caller.generate(done)).accepted.joined
        duplicate.cancel()
        call.cancel()
        wait_until(lambda: len(server.server.generations.all) == 1)
        assert next(caller.generate(done)).accepted.joined


def test_a_result_of_another_bundle_is_none(slow_bundle: Bundle, bundle: Bundle) -> None:
    """The same id asked with the new bundle is new work, and cannot be resumed."""
    with reloadable(slow_bundle) as (server, reloader, written), connect(server.address) as caller:
        list(caller.generate(prompt_message(slow_bundle, "id", sr32=pb.StageOptions(steps=1))))
        written.config = replace(written.config, bundle=bundle.folder)
        assert server.run(reloader.reload()).outcome == "reloaded"
        asked = request_message(bundle, request_id="id", resume=pb.ResumeStart())
        with pytest.raises(grpc.RpcError) as unknown:
            list(caller.generate(asked))
        assert details_of(unknown.value)[:2] == ("NOT_FOUND", "UNKNOWN_REQUEST")
        assert not next(caller.generate(prompt_message(bundle, "id"))).accepted.joined
