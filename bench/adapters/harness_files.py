"""What AIPerf and the MLPerf endpoints harness read, as text by file name. Knows neither package.

AIPerf counts words of a prompt with a tokenizer, which it would download: it gets one of its own
that splits at spaces. The endpoints harness reads a YAML file, of which every JSON is one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.workload import WorkItem

PARTIAL_IMAGES = 3
"""As many as the door sends: the pictures of all earlier stages."""


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def aiperf_files(items: Sequence[WorkItem], extra: Mapping[str, Any]) -> dict[str, str]:
    """A data set of the type `single_turn`, and a tokenizer.

    Args:
        items: in their order.
        extra: fields of every request beside prompt, seed and partial images.
    """
    rows = [
        {
            "text": item.prompt,
            "extra": {"seed": item.seed, "partial_images": PARTIAL_IMAGES, **extra},
        }
        for item in items
    ]
    words: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
    }
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    return {
        "aiperf/requests.jsonl": lines(rows),
        "aiperf/tokenizer/tokenizer.json": json.dumps(words),
        "aiperf/tokenizer/tokenizer_config.json": json.dumps(about),
    }


def endpoints_files(
    items: Sequence[WorkItem], extra: Mapping[str, Any], url: str
) -> dict[str, str]:
    """A data set and the configuration of a single stream over it.

    Args:
        items: in their order.
        extra: fields of every request beside prompt, seed and partial images.
        url: of the HTTP door.
    """
    rows = [
        {
            "prompt": item.prompt,
            "seed": item.seed,
            "stream": True,
            "partial_images": PARTIAL_IMAGES,
            **extra,
        }
        for item in items
    ]
    config = {
        "name": "edge-cascade-single-stream",
        "type": "online",
        "model_params": {"name": "edge-cascade", "streaming": "on"},
        "datasets": [{"name": "perf", "type": "performance", "path": "endpoints/requests.jsonl"}],
        "settings": {
            "runtime": {"min_duration_ms": 0, "n_samples_to_issue": len(items)},
            "load_pattern": {"type": "concurrency", "target_concurrency": 1},
            "client": {"num_workers": 1, "max_connections": 1, "warmup_connections": 0},
        },
        "endpoint_config": {"endpoints": [url], "api_type": "videogen"},
        "report_dir": "endpoints/report",
    }
    return {
        "endpoints/requests.jsonl": lines(rows),
        "endpoints/single_stream.yaml": json.dumps(config, indent=1) + "\n",
    }
