"""The MLPerf endpoints harness against an images endpoint: runs in the environment of the harness.

    python mlperf_endpoints.py benchmark from-config --config endpoints/single_stream.yaml

The harness knows chat and video endpoints. This file gives its API type `videogen` the path, the
request and the reply of `POST /v1/images/generations`, then starts its command line. The first
chunk of a stream is the first stage's picture, so the harness's time to the first token is the time
to the first picture. The output of a query is the SHA-256 of its last picture's file.
"""

import base64
import hashlib
import json
from typing import Any

from inference_endpoint.core.types import APIType, Query, QueryResult, StreamChunk, TextModelOutput
from inference_endpoint.dataset_manager.transforms import ColumnFilter, Transform
from inference_endpoint.endpoint_client import config as client_config
from inference_endpoint.endpoint_client.adapter_protocol import HttpRequestAdapter
from inference_endpoint.main import run

PATH = "v1/images/generations"
FIELDS = ["seed", "stream", "partial_images", "size", "output_format", "steps", "guidance"]


def digest(b64_json: str) -> str:
    """SHA-256 of a picture's file."""
    return hashlib.sha256(base64.b64decode(b64_json)).hexdigest()


class ImagesAdapter(HttpRequestAdapter):  # type: ignore[misc]  # the harness is not here
    """Requests and replies of an images endpoint."""

    @classmethod
    def dataset_transforms(cls, _model_params: Any) -> list[Transform]:
        """Columns other than the fields of a request are left out."""
        return [ColumnFilter(required_columns=["prompt"], optional_columns=FIELDS)]

    @classmethod
    def encode_query(cls, query: Query) -> bytes:
        """The row of the data set, as it stands."""
        return json.dumps(query.data).encode()

    @classmethod
    def decode_response(cls, response_bytes: bytes, query_id: str) -> QueryResult:
        """A reply that was not streamed."""
        picture = json.loads(response_bytes)["data"][0]["b64_json"]
        return QueryResult(id=query_id, response_output=TextModelOutput(output=digest(picture)))

    @classmethod
    def decode_sse_message(cls, json_bytes: bytes) -> Any:
        """An event of a stream."""
        return json.loads(json_bytes)


class ImagesAccumulator:
    """The pictures of one stream."""

    def __init__(self, query_id: str, stream_all_chunks: bool) -> None:  # noqa: FBT001 - as called
        """No picture yet.

        Args:
            query_id: of the harness.
            stream_all_chunks: whether it is told of every picture, not of the first alone.
        """
        self._query_id, self._all = query_id, stream_all_chunks
        self._pictures: list[str] = []
        self._error = ""

    def add_chunk(self, event: dict[str, Any]) -> StreamChunk | None:
        """Take in an event; what the harness is told of it."""
        if "b64_json" not in event:
            self._error = json.dumps(event)
            return None
        self._pictures.append(digest(event["b64_json"]))
        first = len(self._pictures) == 1
        if not (first or self._all):
            return None
        return StreamChunk(
            id=self._query_id,
            response_chunk=self._pictures[-1],
            metadata={"first_chunk": first},
        )

    def get_final_output(self) -> QueryResult:
        """The last picture.

        Raises:
            RuntimeError: the stream had none, or ended with an error.
        """
        if self._error or not self._pictures:
            raise RuntimeError(self._error or "a stream without a picture")
        output = TextModelOutput(output=[self._pictures[0], *self._pictures[-1:]])
        metadata = {"first_chunk": False, "final_chunk": True}
        return QueryResult(id=self._query_id, response_output=output, metadata=metadata)


def main() -> None:
    """The harness's command line, with its video type asking for pictures."""
    route = APIType.default_route
    APIType.default_route = lambda kind: PATH if kind is APIType.VIDEOGEN else route(kind)
    for mapping, one in (
        (client_config.ADAPTER_MAP, ImagesAdapter),
        (client_config.ACCUMULATOR_MAP, ImagesAccumulator),
    ):
        mapping[APIType.VIDEOGEN] = f"{one.__module__}.{one.__name__}"
    run()


if __name__ == "__main__":
    main()
