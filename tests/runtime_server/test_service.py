"""The calls over a real socket: the same picture from every starting point, and true counters."""

import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.engines.factory import EngineChoice
from cascade.errors import CascadeError, EngineError, InvalidRequest
from cascade.events import StageFinished
from cascade.request import GenerateRequest
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.config.config import ServerConfig
from runtime_server.core import load_core
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    connect,
    details_of,
    local_results,
    pixels,
    raw_image,
    request_message,
    results_of,
    running,
    tensor_message,
    wait_until,
)
from wire.contexts import context_handle
from wire.service import WIRE_VERSION

SEED = 11
SETTINGS: dict[str, Any] = {
    "seed": SEED,
    "image_index": 3,
    "options": {
        "base": pb.StageOptions(steps=4, guidance=3.0),
        "sr16": pb.StageOptions(augmentation=0.2),
        "sr32": pb.StageOptions(steps=2, guidance=1.5),
    },
}
REQUEST = GenerateRequest(
    prompt=PROMPT,
    seed=SEED,
    image_index=3,
    options={
        "base": DiffusionOptions(steps=4, guidance=3.0),
        "sr16": DiffusionOptions(augmentation=0.2),
        "sr32": DiffusionOptions(steps=2, guidance=1.5),
    },
)
STARTS = ("prompt", "handle", "tensor", "image8", "image16")
REMAINING = {
    "prompt": ["text_encoder", "base", "sr16", "sr32"],
    "handle": ["base", "sr16", "sr32"],
    "tensor": ["base", "sr16", "sr32"],
    "image8": ["sr16", "sr32"],
    "image16": ["sr32"],
}


@pytest.fixture(scope="module")
def local(bundle: Bundle) -> dict[str, StageFinished]:
    """The same request, run by `cascade.generate` in this process."""
    return local_results(bundle, REQUEST)


def embeddings(local: dict[str, StageFinished]) -> Array:
    """The context that the device would send."""
    context = local["text_encoder"].handoff.context
    assert context is not None
    return context


def start_of(kind: str, local: dict[str, StageFinished]) -> dict[str, Any]:
    """The oneof of a starting point."""
    tensor = tensor_message(embeddings(local))
    handle = pb.ContextReference(handle=context_handle(embeddings(local)))
    if kind == "prompt":
        return {"prompt": pb.PromptStart(prompt=PROMPT)}
    if kind == "handle":
        return {"context": pb.ContextStart(context=handle)}
    if kind == "tensor":
        return {"context": pb.ContextStart(context=pb.ContextReference(tensor=tensor))}
    image = local["base" if kind == "image8" else "sr16"].handoff.image
    assert image is not None
    return {"image": pb.ImageStart(context=handle, image=raw_image(image))}


@pytest.mark.parametrize("kind", STARTS)
def test_every_starting_point_gives_the_same_pixels(
    kind: str, caller: Caller, bundle: Bundle, local: dict[str, StageFinished]
) -> None:
    """Each stage's picture equals the one made here, to the bit."""
    caller.put_context(
        pb.PutContextRequest(bundle_id=bundle.bundle_id, context=tensor_message(embeddings(local)))
    )
    message = request_message(bundle, **SETTINGS, **start_of(kind, local))
    results = results_of(caller.generate(message))
    assert list(results) == REMAINING[kind]
    for name, result in results.items():
        if name == "text_encoder":
            assert result.context.data == embeddings(local).tobytes()
            assert tuple(result.context.shape) == embeddings(local).shape
        else:
            expected = local[name].handoff.image
            assert expected is not None
            assert np.array_equal(pixels(result.image), expected)


def test_a_stream_says_what_happens_in_order(caller: Caller, bundle: Bundle) -> None:
    """Accepted first, done last with the time of every hop and the bytes."""
    output = pb.OutputOptions(preview_every=1)
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT), output=output)
    responses = list(caller.generate(message))
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "done"
    assert kinds.count("stage_result") == 4
    assert "progress" in kinds
    assert "preview" in kinds
    done = responses[-1].done
    assert set(done.seconds) == {"queue", "encode", "text_encoder", "base", "sr16", "sr32"}
    assert done.bytes_received == message.ByteSize()
    assert done.bytes_sent == sum(response.ByteSize() for response in responses[:-1])
    preview = next(r.preview for r in responses if r.WhichOneof("event") == "preview")
    assert preview.image.format == pb.IMAGE_FORMAT_JPEG
    assert preview.image.data.startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("format_", "magic"),
    [
        (pb.IMAGE_FORMAT_UNSPECIFIED, b"\x89PNG"),
        (pb.IMAGE_FORMAT_PNG, b"\x89PNG"),
        (pb.IMAGE_FORMAT_WEBP, b"RIFF"),
        (pb.IMAGE_FORMAT_JPEG, b"\xff\xd8"),
        (pb.IMAGE_FORMAT_RAW, b""),
        (pb.IMAGE_FORMAT_WEBP90, b"RIFF"),
        (pb.IMAGE_FORMAT_AVIF, b"\0\0\0"),
    ],
)
def test_pictures_come_in_the_format_asked_for(
    format_: Any, magic: bytes, caller: Caller, bundle: Bundle
) -> None:
    """PNG where nothing was said; the lossless ones all hold the same pixels."""
    start = {"prompt": pb.PromptStart(prompt=PROMPT)}
    plain = results_of(caller.generate(request_message(bundle, last_stage="base", **start)))
    output = pb.OutputOptions(format=format_)
    message = request_message(bundle, last_stage="base", output=output, **start)
    image = results_of(caller.generate(message))["base"].image
    assert image.data.startswith(magic)
    assert (image.width, image.height) == (8, 8)
    if format_ <= pb.IMAGE_FORMAT_WEBP:
        assert np.array_equal(pixels(image), pixels(plain["base"].image))


def test_the_last_stage_wanted_is_the_last_one_run(caller: Caller, bundle: Bundle) -> None:
    """Also when it is the very first."""
    start = {"prompt": pb.PromptStart(prompt=PROMPT)}
    for last, expected in (("text_encoder", ["text_encoder"]), ("sr16", REMAINING["prompt"][:3])):
        message = request_message(bundle, last_stage=last, **start)
        assert list(results_of(caller.generate(message))) == expected


def test_a_context_is_stored_under_its_hash(
    caller: Caller, bundle: Bundle, local: dict[str, StageFinished]
) -> None:
    """The handle is the agreed one, so a client can compute it before it asks."""
    request = pb.PutContextRequest(
        bundle_id=bundle.bundle_id, context=tensor_message(embeddings(local))
    )
    response = caller.put_context(request)
    assert response.handle == context_handle(embeddings(local))
    assert response.lifetime_seconds == 600


def test_server_info_tells_components_limits_and_speed(caller: Caller, bundle: Bundle) -> None:
    """After a request, every component has a measured time."""
    list(caller.generate(request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT))))
    info = caller.server_info()
    assert info.wire_version == WIRE_VERSION
    assert info.bundle_id == bundle.bundle_id
    assert [(c.position, c.name, c.output_resolution) for c in info.components] == [
        (0, "text_encoder", 0),
        (1, "base", 8),
        (2, "sr16", 16),
        (3, "sr32", 32),
    ]
    assert all(c.milliseconds_per_step > 0 for c in info.components)
    assert info.limits.max_queued_per_stage == 16
    assert len(info.image_formats) == 6


def test_a_server_with_a_cut_hosts_only_the_rest(
    bundle: Bundle, local: dict[str, StageFinished]
) -> None:
    """It refuses a start before its first component and runs the others the same."""
    with running(bundle, cut=2) as server, connect(server.address) as caller:
        assert [c.name for c in caller.server_info().components] == ["sr16", "sr32"]
        for kind, field in (("prompt", "prompt"), ("tensor", "context")):
            with pytest.raises(grpc.RpcError) as refused:
                list(caller.generate(request_message(bundle, **start_of(kind, local))))
            assert details_of(refused.value)[:3] == ("INVALID_ARGUMENT", "INVALID_REQUEST", field)
        image = local["base"].handoff.image
        assert image is not None
        reference = pb.ContextReference(tensor=tensor_message(embeddings(local)))
        start = pb.ImageStart(context=reference, image=raw_image(image))
        results = results_of(caller.generate(request_message(bundle, **SETTINGS, image=start)))
        expected = local["sr32"].handoff.image
        assert expected is not None
        assert np.array_equal(pixels(results["sr32"].image), expected)


def test_a_server_of_named_components_hosts_those_alone(
    bundle: Bundle, local: dict[str, StageFinished], tmp_path: Path
) -> None:
    """It needs the files of no other, and refuses to go on across a gap."""
    sparse = tmp_path / "sparse"
    sparse.mkdir()
    for name in ("manifest.json", *bundle.files_of([0, 3])):
        shutil.copy(bundle.folder / name, sparse / name)
    part = open_bundle(sparse, runs=(0, 3))
    assert part.bundle_id == bundle.bundle_id
    with running(part, components="sr32,text_encoder") as server, connect(server.address) as caller:
        assert [c.position for c in caller.server_info().components] == [0, 3]
        prompt = start_of("prompt", local)
        request = request_message(bundle, **SETTINGS, **prompt, last_stage="text_encoder")
        (found,) = results_of(caller.generate(request)).values()
        assert found.context.data == embeddings(local).tobytes()
        with pytest.raises(grpc.RpcError) as refused:
            list(caller.generate(request_message(bundle, **SETTINGS, **prompt)))
        assert details_of(refused.value)[:3] == (
            "INVALID_ARGUMENT", "INVALID_REQUEST", "last_stage",
        )  # fmt: skip
    for wrong, words in (
        ({"components": "sr64"}, "no component 'sr64'"),
        ({"components": "base"}, "cascade bundle pull"),
    ):
        with pytest.raises(CascadeError, match=words):
            load_core(ServerConfig(bundle=sparse, **wrong))
    for twice in ({"components": "base", "cut": 1}, {"components": "base,"}):
        with pytest.raises(InvalidRequest) as contradiction:
            ServerConfig(bundle=sparse, **twice)
        assert contradiction.value.field == "components"


class FaultyEngine:
    """An engine that fails as an engine of ours, or with a bug, and knows a secret."""

    failure: Exception | None = None

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        del graph, choice

    def run(self, inputs: Any) -> dict[str, Array]:
        """Fail as told."""
        del inputs
        raise self.failure or EngineError("node /secret/weights-17 failed")

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing to release."""


@pytest.mark.parametrize("failure", [None, ZeroDivisionError("/secret/path.py: PROMPT")])
def test_internal_errors_leak_nothing(
    failure: Exception | None, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an id, the log has the cause under it, and the server goes on."""

    class Engine(FaultyEngine):
        pass

    Engine.failure = failure
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT))
    with running(bundle, Engine) as server, connect(server.address) as caller:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as failed:
                list(caller.generate(message))
        code, reason, _, _ = details_of(failed.value)
        assert code == "INTERNAL"
        assert reason == ("ENGINE_ERROR" if failure is None else "STAGE_ERROR")
        text = failed.value.details()
        assert text.startswith("the server failed; its log has the cause under error id ")
        assert "secret" not in str(failed.value.trailing_metadata())
        logged = [r for r in caplog.records if r.getMessage() == "internal_error"]
        assert logged[-1].__dict__["fields"]["error_id"] == text.split()[-1]
        assert PROMPT not in str([r.__dict__ for r in caplog.records])
        assert caller.server_info().bundle_id == bundle.bundle_id
        wait_until(lambda: server.core.executor.counts.idle)


def test_counters_are_back_at_zero(server: RunningServer, caller: Caller, bundle: Bundle) -> None:
    """After work that ended well and work that was refused."""
    list(caller.generate(request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT))))
    with pytest.raises(grpc.RpcError):
        list(caller.generate(request_message(bundle)))
    wait_until(lambda: server.core.executor.counts.idle)


@pytest.mark.parametrize(
    ("precisions", "code", "reason", "field"),
    [
        (
            {"sr32": pb.PRECISION_INT8},
            "FAILED_PRECONDITION",
            "PRECISION_MISMATCH",
            "precisions.sr32",
        ),
        ({"sr64": pb.PRECISION_FP32}, "INVALID_ARGUMENT", "INVALID_REQUEST", "precisions"),
        ({"sr32": 0}, "INVALID_ARGUMENT", "INVALID_REQUEST", "precisions.sr32"),
        ({"sr32": 77}, "INVALID_ARGUMENT", "INVALID_REQUEST", "precisions.sr32"),
    ],
)
def test_a_precision_that_is_not_ours_is_refused(
    caller: Caller, bundle: Bundle, precisions: dict[str, Any], code: str, reason: str, field: str
) -> None:
    """Before anything runs, naming the component."""
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT), precisions=precisions)
    with pytest.raises(grpc.RpcError) as refused:
        list(caller.generate(message))
    assert details_of(refused.value)[:3] == (code, reason, field)


def test_precisions_are_told(caller: Caller, bundle: Bundle) -> None:
    """Beforehand per component, and with each result; what fits, or does not run, is fine."""
    info = caller.server_info()
    assert {c.name: (c.engine, c.precision) for c in info.components}["base"] == (
        "ort",
        pb.PRECISION_FP32,
    )
    message = request_message(
        bundle,
        prompt=pb.PromptStart(prompt=PROMPT),
        last_stage="sr16",
        precisions={"base": pb.PRECISION_FP32, "sr32": pb.PRECISION_INT8},
    )
    results = results_of(caller.generate(message))
    assert {(r.engine, r.precision) for r in results.values()} == {("ort", pb.PRECISION_FP32)}
