"""What share of a picture by groups of pixels is spent deciding values, outside the engines?

    python -m benchmarks.pixel_host_share [--sizes 32,64,128] [--rounds 5] [--pictures 1,2,4,8]
                                          [--json FILE]

Graphs of true shapes with weights that mean nothing: a body of `WIDTH` channels and `BLOCKS` pairs
of convolutions on the parent's grid, heads of `HEAD` channels. Each size with a parent of corners
(three passes) and with a parent of means that are kept (four). Milliseconds of processor time of
the one thread that does everything, so that other work on the machine counts little; medians, the
first picture is not counted. A second table has the host's part of several pictures whose requests
share every run, decided each by itself and all in one call, in turns.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from benchmarks.lib.picture_parts import PictureParts
from benchmarks.lib.record import write_record
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, EngineKind, open_engine
from cascade.graph_spec import TensorSpec
from cascade.pixels.drawing import Drawing, symbols_of
from cascade.pixels.logits import Logits
from cascade.pixels.order import squares
from cascade.pixels.pictures import Drawn, Pictures
from cascade.pixels.scheme import PassScheme
from cascade.pixels.words import words_of_digits
from cascade.precision import Precision
from cascade.types import Array
from tests.support.hashed_heads import AROUND, PARENTS
from tests.support.tiny_bundle import model

WIDTH, BLOCKS, HEAD, FEATURES = 64, 5, 96, 64
COPIES: dict[str, Any] = {"parent_copies": PARENTS, "canvas_copies": AROUND}
CORNERS = PassScheme(parent="subsample", order=squares("subsample"), guess="parent", **COPIES)
MEANS = PassScheme(parent="box", order=squares("box"), guess="cell", keep_mean=True, **COPIES)
SCHEMES = {"corners": CORNERS, "means": MEANS}
CANDIDATES = len(PARENTS) + len(AROUND)


def f32(name: str, *shape: int) -> TensorSpec:
    """A float32 tensor with a free batch axis."""
    return TensorSpec(name=name, dtype="float32", shape=("batch", *shape))


def body_graph(size: int) -> bytes:
    """Convolutions on the parent's grid, then features of the targets."""
    rng, small, count = np.random.default_rng(0), size // 2, size * size // 4
    inputs = [
        f32("canvas", 3, size, size),
        f32("known", 1, size, size),
        f32("low_res", 3, small, small),
        TensorSpec(name="pass_index", dtype="int64", shape=("batch",)),
        TensorSpec(name="targets", dtype="int64", shape=("batch", count)),
    ]
    nodes = [
        helper.make_node("Concat", ["canvas", "known"], ["seen"], axis=1),
        helper.make_node("SpaceToDepth", ["seen"], ["folded"], blocksize=2),
        helper.make_node("Concat", ["folded", "low_res"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "stem"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Gather", ["passes", "pass_index"], ["passed"]),
        helper.make_node("Add", ["c0", "passed"], ["h0"]),
    ]
    for layer in range(2 * BLOCKS):
        nodes += [
            helper.make_node("Conv", [f"h{layer}", "deep"], [f"d{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Round", [f"d{layer}"], [f"r{layer}"]),
            helper.make_node("Clip", [f"r{layer}", "least", "most"], [f"h{layer + 1}"]),
        ]
    nodes += [
        helper.make_node("Conv", [f"h{2 * BLOCKS}", "out"], ["wide"]),
        helper.make_node("DepthToSpace", ["wide"], ["pixels"], blocksize=2),
        helper.make_node("Reshape", ["pixels", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["positions"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["targets", "last"], ["places"]),
        helper.make_node("GatherND", ["positions", "places"], ["features"], batch_dims=1),
    ]
    constants: dict[str, Any] = {
        "stem": rng.standard_normal((WIDTH, 19, 3, 3)) * 0.03,
        "deep": rng.standard_normal((WIDTH, WIDTH, 3, 3)) * 0.05,
        "out": rng.standard_normal((4 * FEATURES, WIDTH, 1, 1)) * 0.1,
        "passes": rng.standard_normal((4, WIDTH, 1, 1)),
        "least": np.float32(-255),
        "most": np.float32(255),
    }
    held = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    held["flat"] = np.array([0, FEATURES, size * size], np.int64)
    held["last"] = np.array([2], np.int64)
    return model(nodes, inputs, [f32("features", count, FEATURES)], held)


def heads_graph(size: int) -> bytes:
    """Features, earlier symbols and matches to the three answers."""
    rng, count = np.random.default_rng(1), size * size // 4
    inputs = [
        f32("features", count, FEATURES),
        TensorSpec(name="earlier", dtype="int64", shape=("batch", count, 2)),
        f32("match", count, CANDIDATES),
    ]
    outputs = [f32("high", count, 16), f32("low", count, 256), f32("copy", count, CANDIDATES + 1)]
    nodes = [
        helper.make_node("MatMul", ["features", "inward"], ["own"]),
        helper.make_node("Gather", ["symbols", "earlier"], ["both"]),
        helper.make_node("ReduceSum", ["both", "middle"], ["decided"], keepdims=0),
        helper.make_node("MatMul", ["match", "matches"], ["said"]),
        helper.make_node("Sum", ["own", "decided", "said"], ["all"]),
        helper.make_node("Relu", ["all"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "deeper"], ["deep"]),
        helper.make_node("Relu", ["deep"], ["last"]),
    ]
    constants = {
        "inward": rng.standard_normal((FEATURES, HEAD)) * 0.1,
        "symbols": rng.standard_normal((257, HEAD)),
        "matches": rng.standard_normal((CANDIDATES, HEAD)),
        "deeper": rng.standard_normal((HEAD, HEAD)) * 0.1,
    }
    for answer in outputs:
        wide = int(answer.shape[-1])
        constants[f"to_{answer.name}"] = rng.standard_normal((HEAD, wide))
        nodes += [
            helper.make_node("MatMul", ["last", f"to_{answer.name}"], [f"{answer.name}_sum"]),
            helper.make_node("Round", [f"{answer.name}_sum"], [answer.name]),
        ]
    held = {name: value.astype(np.float32) for name, value in constants.items()}
    held["middle"] = np.array([2], np.int64)
    return model(nodes, inputs, outputs, held)


def one_picture(
    scheme: PassScheme, size: int, engines: Mapping[str, Engine], parent: Array
) -> PictureParts:
    """Where the time of one picture `[size, size, 3]` went; its parent is uint8."""
    spent = PictureParts()
    count = size * size * 3
    address = {"seed": 1, "image": 0, "stage": 1}

    def begin() -> tuple[Pictures, Drawn]:
        drawn = Drawn(words_of_digits(count, 2, **address))
        return Pictures(scheme, (size, size), parent), drawn

    pictures, drawn = spent.timed("host", begin)
    for step in pictures.passes:
        body = spent.timed("host", lambda step=step: pictures.begin(step.index))
        features = spent.timed("body", lambda body=body: engines["pass"].run(body))
        for channel in step.channels:
            asked = spent.timed("host", lambda channel=channel: pictures.heads_inputs(channel))
            inputs = {**asked, "features": features["features"]}
            found = spent.timed("heads", lambda inputs=inputs: engines["heads"].run(inputs))
            logits = Logits(*(found[name][0] for name in ("high", "low", "copy")))
            spent.timed(
                "host",
                lambda channel=channel, logits=logits: pictures.decide(channel, logits, drawn),
            )
    return spent


def measure(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Medians of every size and scheme."""
    choice = EngineChoice(EngineKind.ORT, Precision.FP32, 1)
    rows = []
    for size in sizes:
        graphs = {"pass": body_graph(size), "heads": heads_graph(size)}
        engines = {role: open_engine(graph, choice) for role, graph in graphs.items()}
        rng = np.random.default_rng(size)
        parent = rng.integers(0, 256, (1, size // 2, size // 2, 3)).astype(np.uint8)
        for name, scheme in SCHEMES.items():
            found = [one_picture(scheme, size, engines, parent) for _ in range(rounds + 1)][1:]
            medians = {
                part: round(statistics.median(f.parts[part] for f in found), 2)
                for part in ("body", "heads", "host")
            }
            share = statistics.median(f.host_share for f in found)
            calls = scheme.head_runs
            rows.append(
                {
                    "size": size,
                    "parent": name,
                    "passes": scheme.passes,
                    **medians,
                    "host_share": round(share, 3),
                    "host_ms_per_head_call": round(medians["host"] / calls, 3),
                }
            )
        for engine in engines.values():
            engine.close()
    return rows


def host_of_many(scheme: PassScheme, size: int, pictures: int, *, in_one_call: bool) -> float:
    """Milliseconds of the host per picture, of requests that share every run of random heads."""
    rng, count = np.random.default_rng(size), size * size // 4
    shape = {"high": 16, "low": 256, "copy": CANDIDATES + 1}
    answers = {
        name: rng.integers(-200, 200, (pictures, count, wide)).astype(np.float32)
        for name, wide in shape.items()
    }
    begun = time.thread_time()
    made = []
    for seed in range(pictures):
        parent = rng.integers(0, 256, (1, size // 2, size // 2, 3)).astype(np.uint8)
        digits = words_of_digits(size * size * 3, 2, seed=seed, image=0, stage=1)
        made.append((Pictures(scheme, (size, size), parent), Drawn(digits)))
    for step in made[0][0].passes:
        for own, _ in made:
            own.begin(step.index)
        for channel in step.channels:
            for own, _ in made:
                own.heads_inputs(channel)
            asked = [next(own.questions(channel)) for own, _ in made]
            works = [
                Drawing(a.mixture, drawn.words_at(a.turn), a.block.answers, "exact")
                for a, (_, drawn) in zip(asked, made, strict=True)
            ]
            shared = [list(range(pictures))] if in_one_call else [[at] for at in range(pictures)]
            for part in shared:
                found = symbols_of([works[at] for at in part], answers, part)
                for at, symbols in zip(part, found, strict=True):
                    made[at][0].answer(asked[at], symbols)
    return 1e3 * (time.thread_time() - begun) / pictures


def in_calls(sizes: list[int], pictures: list[int], rounds: int) -> list[dict[str, Any]]:
    """Medians of both ways, in turns."""
    rows = []
    for size, (name, scheme), many in product(sizes, SCHEMES.items(), pictures):
        found = [
            [host_of_many(scheme, size, many, in_one_call=way) for way in (False, True)]
            for _ in range(rounds + 1)
        ][1:]
        each, one = (round(statistics.median(times), 2) for times in zip(*found, strict=True))
        rows.append(
            {"size": size, "parent": name, "pictures": many, "each ms": each, "one call ms": one}
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    print(" ".join(f"{name:>22}" for name in rows[0]))
    for row in rows:
        print(" ".join(f"{value!s:>22}" for value in row.values()), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", default="32,64,128", help="heights of the pictures")
    parser.add_argument("--rounds", type=int, default=5, help="pictures of each")
    parser.add_argument("--pictures", default="1,2,4,8", help="whose requests share runs")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    args = parser.parse_args()
    sizes, pictures = ([int(n) for n in given.split(",")] for given in (args.sizes, args.pictures))
    rows = measure(sizes, args.rounds)
    show(rows)
    calls = in_calls(sizes, pictures, args.rounds)
    show(calls)
    write_record(args.json, {"rows": rows, "calls": calls})


if __name__ == "__main__":
    main()
