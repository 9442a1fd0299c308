"""Files for other harnesses: the requests are those of `cascade bench`, and the door takes them."""

import base64
import hashlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.adapters.__main__ import main
from bench.workload import read_workload
from runtime_server.http_door.image_ask import ImageAsk, read_ask

ADAPTER = Path(__file__).parents[2] / "bench/adapters/mlperf_endpoints.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three requests that stop at 256 pixels."""
    made = tmp_path_factory.mktemp("adapters")
    words = ["-o", str(made), "--requests", "3", "--seed", "5", "--size", "256x256"]
    assert main([*words, "--url", "http://host:8080"]) == 0
    return made


def asked(row: dict[str, Any]) -> ImageAsk:
    """What the HTTP door understands of a body."""
    return read_ask(json.dumps(row).encode())


def rows(path: Path) -> list[dict[str, Any]]:
    """Of a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_harnesses_send_the_requests_of_the_benchmark(folder: Path) -> None:
    """Prompt and seed of every number, streamed with the pictures of the stages before."""
    workload = read_workload(None, 5)
    sent = [
        {"prompt": row["text"], "stream": True, **row["extra"]}
        for row in rows(folder / "aiperf/requests.jsonl")
    ]
    assert sent == rows(folder / "endpoints/requests.jsonl")
    for number, ask in enumerate(map(asked, sent)):
        item = workload.item(number)
        assert (ask.prompt, ask.seed) == (item.prompt, item.seed)
        assert (ask.size, ask.stream, ask.partial_images) == ("256x256", True, 3)
    assert len(sent) == 3


def test_the_endpoints_harness_is_told_the_door(folder: Path) -> None:
    """As many requests as there are, one after the other."""
    config = json.loads((folder / "endpoints/single_stream.yaml").read_text())
    assert config["endpoint_config"] == {"endpoints": ["http://host:8080"], "api_type": "videogen"}
    assert config["settings"]["runtime"]["n_samples_to_issue"] == 3
    assert config["settings"]["load_pattern"]["target_concurrency"] == 1


def test_a_number_of_requests_has_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the flag."""
    with pytest.raises(SystemExit):
        main(["-o", str(tmp_path), "--requests", "0"])
    assert "requests: expected 1 to 100000" in capsys.readouterr().err


STANDINS = {
    "inference_endpoint.core.types": "class Query: ...\nclass APIType: VIDEOGEN = 'videogen'\n"
    "class Value:\n    def __init__(self, **values): self.__dict__.update(values)\n"
    "QueryResult = StreamChunk = TextModelOutput = Value\n",
    "inference_endpoint.dataset_manager.transforms": "class Transform: ...\n"
    "class ColumnFilter:\n    def __init__(self, **columns): self.columns = columns\n",
    "inference_endpoint.endpoint_client.config": "ADAPTER_MAP = {}\n",
    "inference_endpoint.endpoint_client.adapter_protocol": "class HttpRequestAdapter: ...\n",
    "inference_endpoint.main": "def run(): ...\n",
}
"""What the adapter uses of the harness, which needs Python 3.12 and is not installed here."""


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The adapter's names."""
    for name, text in STANDINS.items():
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = runpy.run_path(str(ADAPTER))
    for name in [n for n in sys.modules if n.partition(".")[0] == "inference_endpoint"]:
        monkeypatch.delitem(sys.modules, name)
    return found


def test_a_stream_is_its_first_and_its_last_picture(adapter: dict[str, Any]) -> None:
    """The first counts as the first token; pictures are told by the hashes of their files."""
    files = [b"small", b"middle", b"large"]
    events = [json.dumps({"b64_json": base64.b64encode(f).decode()}).encode() for f in files]
    stream = adapter["ImagesAccumulator"]("7", stream_all_chunks=False)
    decode = adapter["ImagesAdapter"].decode_sse_message
    told = [stream.add_chunk(decode(event)) for event in events]
    first, _, last = (hashlib.sha256(f).hexdigest() for f in files)
    assert (told[0].response_chunk, told[0].metadata) == (first, {"first_chunk": True})
    assert told[1:] == [None, None]
    assert stream.get_final_output().response_output.output == [first, last]


def test_a_stream_that_fails_is_a_failure(adapter: dict[str, Any]) -> None:
    """Not a fast success."""
    stream = adapter["ImagesAccumulator"]("7", stream_all_chunks=False)
    with pytest.raises(RuntimeError, match="without a picture"):
        stream.get_final_output()
    stream.add_chunk({"error": {"code": "server_busy"}})
    with pytest.raises(RuntimeError, match="server_busy"):
        stream.get_final_output()
