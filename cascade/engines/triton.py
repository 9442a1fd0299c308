"""NVIDIA Triton: a graph that is a model of a server elsewhere, one request for each run.

Speaks the HTTP form of the Open Inference Protocol (KServe v2) with Triton's extension for binary
tensors, over the standard library: no client package, and no limit to the size of a message. The
only file that speaks it, and where its errors become ours. The model must be of the very graph
that the bundle has, as `cascade export-triton` wrote it. Knows arrays; not what the graph is for.

References:
    "Binary Tensor Data Extension" of Triton's protocol documentation.
"""

import http.client
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.engines.triton_config import (
    DATATYPES,
    GRAPH_HASH,
    PADDED,
    ModelConfig,
    ModelTensor,
    read_config,
)
from cascade.errors import Cancelled, EngineError
from cascade.types import Array
from cascade.weights.source import GraphSource, source_sha256

CONNECT_S = 5.0
RUN_S = 300.0
"""Longest wait for a run: as long as a trial of `cascade tune` may take."""
HEADER_LENGTH = "Inference-Header-Content-Length"
"""Bytes of JSON before the tensors of a message."""
MOST_TEXT = 200
"""Characters of a server's error that are passed on."""


@dataclass(slots=True)
class RunInProgress:
    """What another thread can end."""

    ended: bool = False


class TritonEngine:
    """One model of a Triton server. Runs may not overlap; `terminate` comes any time."""

    def __init__(self, graph: GraphSource, *, address: tuple[str, int], model: str) -> None:
        """Ask the server for the model.

        Args:
            graph: that the model must be of; nothing of it is sent.
            address: host and port of the server's HTTP door.
            model: its name there.

        Raises:
            EngineError: no server answers there, or it has no such model, or one of another graph.
        """
        self._connection = http.client.HTTPConnection(*address, timeout=CONNECT_S)
        self._where = f"Triton at {address[0]}:{address[1]}"
        self._path = f"/v2/models/{model}"
        self._lock = threading.Lock()
        self._running: RunInProgress | None = None
        self._closed = False
        try:
            body, _ = self._exchange("GET", f"{self._path}/config", b"", {})
            self._config = read_config(parsed(bytes(body)))
            self._check(self._config, source_sha256(graph))
        except EngineError:
            self.close()
            raise
        names = self._config.parameters.get(PADDED, "")
        self._padded = frozenset(names.split(",")) if names else frozenset[str]()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; shapes, dtypes and errors are those of `Engine.run`.

        More rows than the model takes at once go in several requests.
        """
        if self._closed:
            raise EngineError("the engine was closed: open the stage again")
        state = RunInProgress()
        with self._lock:
            self._running = state
        try:
            rows = max(len(value) for value in inputs.values())
            most = self._config.max_batch
            parts = [
                self._run_rows({name: value[at : at + most] for name, value in inputs.items()})
                for at in range(0, rows, most)
            ]
        except EngineError as exc:
            if state.ended:
                raise Cancelled("the run was ended from outside") from exc
            raise
        finally:
            with self._lock:
                self._running = None
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def terminate(self) -> None:
        """Stop waiting for the run in progress; the server finishes it. See `Engine.terminate`."""
        with self._lock:
            if self._running is not None:
                self._running.ended = True
                self._hang_up()

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        self._closed = True
        self.terminate()
        self._connection.close()

    def _check(self, config: ModelConfig, sha256: str) -> None:
        """Refuse a model of another graph: it would make other pictures."""
        found = config.parameters.get(GRAPH_HASH)
        if found != sha256:
            raise EngineError(
                f"engine: model {config.name} of {self._where} is of another bundle or precision "
                f"({GRAPH_HASH} {(found or 'missing')[:12]}, expected {sha256[:12]}): write its "
                "repository with `cascade export-triton`",
                field="engine",
            )

    def _hang_up(self) -> None:
        """End whatever waits on the connection."""
        sock = self._connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it was not connected any more: nothing waits

    def _run_rows(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One request."""
        header, tensors = [], []
        for tensor in self._config.inputs:
            value = self._fitted(tensor, inputs[tensor.name])
            data = value.tobytes()
            tensors.append(data)
            header.append(
                {
                    "name": tensor.name,
                    "shape": value.shape,
                    "datatype": DATATYPES[tensor.dtype],
                    "parameters": {"binary_data_size": len(data)},
                }
            )
        outputs = [
            {"name": tensor.name, "parameters": {"binary_data": True}}
            for tensor in self._config.outputs
        ]
        head = json.dumps({"inputs": header, "outputs": outputs}).encode()
        headers = {
            HEADER_LENGTH: str(len(head)),
            "Content-Type": "application/octet-stream",
        }
        body, length = self._exchange(
            "POST", f"{self._path}/infer", b"".join([head, *tensors]), headers
        )
        return self._outputs_in(body, length)

    def _fitted(self, tensor: ModelTensor, value: Array) -> Array:
        """An input as the model takes it: padded to its length, and no scalar a row.

        Raises:
            EngineError: it is longer than the model's fixed length.
        """
        value = np.ascontiguousarray(value, np.dtype(tensor.dtype))
        if tensor.is_scalar:
            return value.reshape(len(value), 1)
        wanted = [
            size if size > 0 else have
            for size, have in zip(tensor.dims, value.shape[1:], strict=True)
        ]
        missing = [size - have for size, have in zip(wanted, value.shape[1:], strict=True)]
        if not any(missing):
            return value
        if min(missing) < 0 or tensor.name not in self._padded:
            raise EngineError(
                f"{tensor.name}: model {self._config.name} of {self._where} takes {wanted} a row, "
                f"got {list(value.shape[1:])}: export it with a larger --tokens",
                field="engine",
            )
        return np.pad(value, [(0, 0), *((0, count) for count in missing)])

    def _outputs_in(self, body: bytearray, length: int) -> dict[str, Array]:
        """The outputs of an answer.

        Raises:
            EngineError: it is none, or one is missing or of another size.
        """
        found: dict[str, Array] = {}
        at = length
        wanted = {tensor.name: tensor for tensor in self._config.outputs}
        try:
            for item in parsed(bytes(body[:length]))["outputs"]:
                tensor = wanted[item["name"]]
                dtype = np.dtype(tensor.dtype)
                shape = tuple(map(int, item["shape"]))
                count = int(np.prod(shape, dtype=np.int64))
                value = np.frombuffer(body, dtype, count, at).reshape(shape)
                at += value.nbytes
                found[tensor.name] = value[:, 0] if tensor.is_scalar else value
        except (KeyError, TypeError, ValueError) as exc:
            raise EngineError(f"{self._where} answered a run with something else: {exc}") from exc
        if found.keys() != wanted.keys() or at != len(body):
            raise EngineError(
                f"{self._where} answered with {sorted(found)} in {len(body)} bytes, expected "
                f"{sorted(wanted)}"
            )
        return found

    def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[bytearray, int]:
        """One request and its answer, with the bytes of JSON before its tensors.

        Raises:
            EngineError: no server answers, or it refuses.
        """
        # A server closes connections that were idle; a run sent twice comes to the same.
        was_open = self._connection.sock is not None
        try:
            try:
                answer, data = self._ask(method, path, body, headers)
            except (ConnectionError, http.client.HTTPException):
                if not was_open or (self._running is not None and self._running.ended):
                    raise
                self._connection.close()
                answer, data = self._ask(method, path, body, headers)
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise EngineError(
                f"{self._where} does not answer ({type(exc).__name__}: {exc}): start it, or use "
                "another --engine",
                field="engine",
            ) from exc
        if answer.status != http.client.OK:
            raise EngineError(
                f"{self._where} refused {path}: {answer.status} {error_in(data)}", field="engine"
            )
        return data, int(answer.headers.get(HEADER_LENGTH, len(data)))

    def _connect(self) -> None:
        """Open the connection; a run may take longer than that."""
        self._connection.timeout = CONNECT_S
        self._connection.connect()
        self._connection.sock.settimeout(RUN_S)

    def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytearray]:
        """Send a request and read its whole answer."""
        connection = self._connection
        if connection.sock is None:
            self._connect()
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        size = int(answer.headers.get("Content-Length", 0))
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            count = answer.readinto(view[at:])
            if not count:
                raise http.client.IncompleteRead(bytes(data[:at]), size - at)
            at += count
        return answer, data


def parsed(data: bytes) -> Any:
    """JSON of an answer.

    Raises:
        EngineError: it is none.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise EngineError(
            f"the answer is not JSON ({exc}): is this a Triton server?", field="engine"
        ) from exc


def error_in(data: bytearray) -> str:
    """What a server said of a request that it refused."""
    try:
        text = str(json.loads(bytes(data))["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = bytes(data[:MOST_TEXT]).decode("utf-8", "replace")
    return " ".join(text.split())[:MOST_TEXT]
