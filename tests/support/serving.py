"""A real server for tests: in this process on a thread of its own, or as a child process.

Both listen on true sockets; calls go through plain gRPC channels and the generated code.
"""

import asyncio
import http.client
import select
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import decode_image
from cascade.codecs.tensor import pack_tensor
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.request import GenerateRequest
from cascade.stage_factory import EngineFactory, open_stages
from cascade.tuning.plan import EnginePlan
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.app.server import CascadeServer
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core, load_core
from runtime_server.lifecycle.http_port import make_http_port
from runtime_server.requests.request_manager import RequestManager
from runtime_server.telemetry.call_tracer import NO_TRACER, CallTracer
from runtime_server.telemetry.server_events import Emit, ignore
from wire.limits import MAX_MESSAGE_BYTES

SERVICE = "/cascade.v1.CascadeService/"
PROMPT = "a red apple, noto style"
HANG_S = 600.0
"""Until an answer that must come: bounds a hang, not how fast a machine is."""
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", 4 * MAX_MESSAGE_BYTES),
    # Each channel a connection of its own, so that no test inherits another's.
    ("grpc.use_local_subchannel_pool", 1),
)


class RunningServer:
    """A server in this process, on an event loop in a thread of its own."""

    def __init__(
        self,
        config: ServerConfig,
        make_engine: EngineFactory | None = None,
        emit: Emit = ignore,
        tracer: CallTracer = NO_TRACER,
    ) -> None:
        self.core: Core = load_core(config, make_engine, emit=emit)
        self._config = config
        self._emit, self._tracer = emit, tracer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server: CascadeServer = self.run(self._start())

    async def _start(self) -> CascadeServer:
        server = CascadeServer(self._config, self.core, self._emit, self._tracer)
        self.http_port = make_http_port(self._config, server, self._emit, self._tracer)
        if self.http_port is not None:
            await self.http_port.start()
        await server.start()
        return server

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=120)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.server.address

    @property
    def http(self) -> str:
        """Where its HTTP door listens."""
        assert self.http_port is not None
        return self.http_port.address

    @property
    def requests(self) -> RequestManager:
        """Where requests come in."""
        return self.server.generations.present.requests

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is inside: no job, no byte, no caller, no request running."""
        limits = self.requests.limits
        return self.core.executor.counts.idle and limits.is_idle and not self.requests.index.running

    def close(self) -> None:
        """Stop, and end the loop and its thread."""
        if self.http_port is not None:
            self.run(self.http_port.stop(0))
        self.run(self.server.stop(0))
        self.run(self.server.close())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def running(
    bundle: Bundle,
    make_engine: EngineFactory | None = None,
    emit: Emit = ignore,
    tracer: CallTracer = NO_TRACER,
    **settings: Any,
) -> Iterator[RunningServer]:
    """A server in this process for the length of a `with` block, one engine thread.

    Rows run one by one unless a test says otherwise: what a busy machine measures would differ from
    run to run.
    """
    settings = {"listen": "127.0.0.1:0", "threads": 1, "max_batch_rows": "1", **settings}
    server = RunningServer(
        ServerConfig(bundle=bundle.folder, **settings), make_engine, emit, tracer
    )
    try:
        yield server
    finally:
        server.close()


@contextmanager
def connect(address: str, *options: tuple[str, int]) -> Iterator["Caller"]:
    """A plaintext channel for the length of a `with` block."""
    with grpc.insecure_channel(address, options=(*CHANNEL_OPTIONS, *options)) as channel:
        yield Caller(channel)


class Caller:
    """The calls over a channel, as bytes and as messages."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def server_info(self, timeout_s: float = HANG_S) -> Any:
        """GetServerInfo."""
        call = self.channel.unary_unary(
            SERVICE + "GetServerInfo",
            request_serializer=pb.GetServerInfoRequest.SerializeToString,
            response_deserializer=pb.GetServerInfoResponse.FromString,
        )
        return call(pb.GetServerInfoRequest(), timeout=timeout_s)

    def put_context(
        self,
        request: Any,
        timeout_s: float = HANG_S,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """PutContext; a request may also be raw bytes."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.channel.unary_unary(
            SERVICE + "PutContext", response_deserializer=pb.PutContextResponse.FromString
        )
        return call(data, timeout=timeout_s, metadata=metadata)

    def cancel(
        self,
        request_id: str,
        timeout_s: float = HANG_S,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> bool:
        """Cancel; whether there was anything."""
        call = self.channel.unary_unary(
            SERVICE + "Cancel",
            request_serializer=pb.CancelRequest.SerializeToString,
            response_deserializer=pb.CancelResponse.FromString,
        )
        message = pb.CancelRequest(request_id=request_id)
        found: bool = call(message, timeout=timeout_s, metadata=metadata).found
        return found

    def generate(
        self,
        request: Any,
        timeout_s: float | None = 600,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """Generate, as the call that iterates responses; a request may also be raw bytes.

        The time allowed is long: a server refuses at once what it cannot do in time.
        """
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.channel.unary_stream(
            SERVICE + "Generate", response_deserializer=pb.GenerateResponse.FromString
        )
        return call(data, timeout=timeout_s, metadata=metadata)


@contextmanager
def child_server(
    bundle: Path | None, *options: str, stdin: int | None = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """`cascade serve` as a child; yields the process and a reader of its next log line."""
    given = () if bundle is None else ("--bundle", str(bundle))
    command = [sys.executable, "-m", "cascade", "serve", *given, *options]
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        stderr = process.stderr
        assert stderr is not None

        def read_line() -> str:
            ready, _, _ = select.select([stderr], [], [], HANG_S)
            assert ready, f"the server wrote nothing for {HANG_S:g} s"
            line = stderr.readline()
            # Comes when it comes: measured beside requests, where a busy machine made steps long.
            return read_line() if '"rows_measured"' in line else line

        try:
            yield process, read_line
        finally:
            if process.poll() is None:
                process.kill()


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """An HTTP request's status and body."""
    with closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def wait_until(condition: Callable[[], bool], timeout_s: float = HANG_S) -> None:
    """Poll until a condition holds; the bound is for a hang, not for how fast a machine is."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.002)


def local_results(
    bundle: Bundle, request: GenerateRequest, make_engine: EngineFactory | None = None
) -> dict[str, StageFinished]:
    """Every component's result when the whole cascade runs right here."""
    positions = range(len(bundle.manifest.components))
    stages = open_stages(bundle, positions, EnginePlan(threads=1), make_engine)
    try:
        events = list(generate(stages, request))
    finally:
        for stage in stages:
            stage.close()
    return {event.stage: event for event in events if isinstance(event, StageFinished)}


def request_message(bundle: Bundle, **fields: Any) -> Any:
    """A GenerateRequest with an id of its own and the bundle's id filled in."""
    unique = f"test-{uuid.uuid4().hex}"
    return pb.GenerateRequest(**{"request_id": unique, "bundle_id": bundle.bundle_id, **fields})


def tensor_message(array: Array) -> Any:
    """A Tensor message of any array."""
    numbers = {"uint8": pb.DTYPE_UINT8, "float16": pb.DTYPE_FLOAT16, "float32": pb.DTYPE_FLOAT32}
    packed = pack_tensor(array)
    return pb.Tensor(shape=packed.shape, dtype=numbers[packed.dtype], data=packed.data)


def raw_image(image: Array) -> Any:
    """An Image message of raw pixels."""
    height, width = image.shape[:2]
    return pb.Image(width=width, height=height, format=pb.IMAGE_FORMAT_RAW, data=image.tobytes())


def pixels(image: Any) -> Array:
    """The pixels of an Image message."""
    names = {pb.IMAGE_FORMAT_RAW: "raw", pb.IMAGE_FORMAT_PNG: "png", pb.IMAGE_FORMAT_WEBP: "webp"}
    return decode_image(image.data, names[image.format], (image.height, image.width), field="image")


def results_of(responses: Any) -> dict[str, Any]:
    """Stage name to StageResult of a stream, read to its end."""
    return {
        response.stage_result.stage: response.stage_result
        for response in responses
        if response.WhichOneof("event") == "stage_result"
    }


def details_of(error: Any) -> tuple[str, str, str, float | None]:
    """Code name, ErrorInfo reason and field, and RetryInfo seconds of a failed call."""
    status: status_pb2.Status | None = rpc_status.from_call(error)
    reason = field = ""
    retry_s = None
    for detail in [] if status is None else status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "cascade.v1"
            reason, field = info.reason, info.metadata.get("field", "")
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    return error.code().name, reason, field, retry_s
