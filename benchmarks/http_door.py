"""What does the HTTP door add to a request, against gRPC?

    python -m benchmarks.http_door [--requests 300] [--bundle DIR] [--json FILE]

One server with both doors; a request over each in turns, on connections that stay open, so that a
drifting machine hits both. The same prompt, a new seed for every pair and an id for every request,
so that nothing is answered from what is kept. The answer over HTTP is parsed and its picture
decoded from base64. Without `--bundle`, of the tiny bundle's first picture: little but the doors.
With a bundle, its last one.
"""

import argparse
import base64
import http.client
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.server_process import Victim, victim
from tests.support.serving import CHANNEL_OPTIONS, PROMPT, SERVICE, request_message
from tests.support.tiny_bundle import write_tiny_bundle

WARM_UP = 20
PERCENTILES = (50, 99)
WORDS = pb.PromptStart(prompt=PROMPT)


def http_address(server: Victim) -> str:
    """Where the server's HTTP door listens, by its log."""
    lines = (json.loads(line) for line in server.lines if line.startswith("{"))
    return str(next(line["address"] for line in lines if line["event"] == "http_port"))


def over_http(connection: http.client.HTTPConnection, seed: int, size: str) -> bytes:
    """The picture of a seed over HTTP."""
    body = json.dumps({"prompt": PROMPT, "seed": seed, "size": size})
    connection.request("POST", "/v1/images/generations", body)
    answer = json.loads(connection.getresponse().read())
    return base64.b64decode(answer["data"][0]["b64_json"])


def over_grpc(generate: Any, bundle: Bundle, seed: int, stage: str) -> bytes:
    """The picture of a seed over gRPC."""
    message = request_message(bundle, prompt=WORDS, seed=seed, last_stage=stage)
    found = b""
    for data in generate(message.SerializeToString(), timeout=600):
        response = pb.GenerateResponse.FromString(data)
        if response.WhichOneof("event") == "stage_result":
            found = response.stage_result.image.data or found
    return found


def measure(bundle: Bundle, stage: str, requests: int) -> dict[str, Any]:
    """Milliseconds of both doors."""
    makes: Any = bundle.manifest.components[bundle.manifest.position(stage)].makes
    size = f"{makes.width}x{makes.height}"
    seconds: dict[str, list[float]] = {"gRPC": [], "HTTP": []}
    different = 0
    with (
        victim(bundle, "--http", "127.0.0.1:0") as server,
        grpc.insecure_channel(server.address, CHANNEL_OPTIONS) as channel,
    ):
        connection = http.client.HTTPConnection(http_address(server), timeout=600)
        generate = channel.unary_stream(SERVICE + "Generate")
        for number in range(WARM_UP + requests):
            begun = time.perf_counter()
            by_grpc = over_grpc(generate, bundle, number, stage)
            between = time.perf_counter()
            by_http = over_http(connection, number, size)
            ended = time.perf_counter()
            different += by_grpc != by_http
            if number >= WARM_UP:
                seconds["gRPC"].append(between - begun)
                seconds["HTTP"].append(ended - between)
        connection.close()
    return {
        "stage": stage,
        "requests": requests,
        "different_pictures": different,
        "milliseconds": {
            name: {f"p{p}": 1000 * float(np.percentile(taken, p)) for p in PERCENTILES}
            for name, taken in seconds.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle is None:
            bundle, stage = write_tiny_bundle(Path(folder) / "bundle"), "base"
        else:
            bundle = open_bundle(args.bundle)
            stage = bundle.manifest.components[-1].name
        figures = measure(bundle, stage, args.requests)
    print(f"{figures['stage']}, {figures['requests']} requests over each door")
    for name, row in figures["milliseconds"].items():
        print(f"{name}  p50 {row['p50']:8.2f} ms  p99 {row['p99']:8.2f} ms")
    gap = figures["milliseconds"]
    added = {p: gap["HTTP"][p] - gap["gRPC"][p] for p in ("p50", "p99")}
    print(f"added p50 {added['p50']:.2f} ms, p99 {added['p99']:.2f} ms")
    print(f"pictures that differ: {figures['different_pictures']}")
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
