"""docs/reference/vectors/numerics.json: up to date, and reproduced by a port that is not ours."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from cascade.text.tokenizer import PromptTokenizer
from tests import numeric_vectors
from tests.cascade.numerics import port, port_schedules

VECTORS: Any = json.loads(numeric_vectors.FILE.read_text())
PAGE = Path(numeric_vectors.FILE).parents[1] / "numerics.md"


def bits(values: list[float], kind: str = ">f") -> list[str]:
    """Numbers as the vectors write them."""
    return [struct.pack(kind, value).hex() for value in values]


def numbers(texts: list[str], kind: str = ">f") -> list[float]:
    """Vectors as numbers."""
    return [struct.unpack(kind, bytes.fromhex(text))[0] for text in texts]


def test_the_vectors_are_those_of_the_code() -> None:
    """Remedy: python -m tests.numeric_vectors."""
    assert json.loads(json.dumps(numeric_vectors.vectors())) == VECTORS


def test_the_port_imports_nothing_of_ours() -> None:
    """Or it would prove nothing."""
    text = "".join(Path(part.__file__).read_text() for part in (port, port_schedules))
    lines = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    found = {line.split()[1] for line in lines}
    assert {name.split(".")[0] for name in found - {port_schedules.__name__}} == {
        "collections", "hashlib", "itertools", "math", "statistics", "struct", "typing",
    }  # fmt: skip


def test_words_and_entries() -> None:
    """Philox and the table."""
    noise = VECTORS["noise"]
    assert (
        port_schedules.philox(noise["philox"]["counter"], noise["philox"]["key"])
        == (noise["philox"]["words"])
    )
    for entry in noise["normal_table"]:
        assert bits([port_schedules.normal(entry["u"])]) == [entry["value"]]


@pytest.mark.parametrize("entry", VECTORS["noise"]["normals"], ids=lambda e: e["seed"])
def test_normals(entry: Any) -> None:
    """The first values, and the hash of all."""
    address = (int(entry["seed"]), entry["image"], entry["stage"], entry["step"])
    values = port_schedules.normals(192, *address)
    assert bits(values[:9]) == entry["first"]
    assert hashlib.sha256(struct.pack("<192f", *values)).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("entry", VECTORS["elementary"], ids=lambda e: e["function"])
def test_elementary_functions(entry: Any) -> None:
    """To the last bit."""
    function = getattr(port_schedules, entry["function"])
    found = [function(x) for x in numbers(entry["x"], ">d")]
    assert bits(found, ">d") == entry["y"]


@pytest.mark.parametrize("entry", VECTORS["schedules"])
def test_schedules(entry: Any) -> None:
    """Times and scales, to the last bit."""
    schedule = port_schedules.schedule_of(entry)
    times = schedule.times(entry["steps"])
    assert bits(times, ">d") == entry["times"]
    for name in ("alpha", "sigma", "log_snr"):
        assert bits([getattr(schedule, name)(t) for t in times[:-1]], ">d") == entry[name]


@pytest.mark.parametrize("entry", VECTORS["samplers"], ids=lambda e: e["sampler"])
def test_samplers(entry: Any) -> None:
    """Every estimate and every picture of a run."""

    def noise(step: int) -> list[float]:
        return port_schedules.normals(12, entry["seed"], entry["image"], entry["stage"], step)

    steps = list(port.run(entry, lambda x: [0.5 * value for value in x], noise))
    found = [{"x0": bits(x0), "x_t": bits(x_t)} for x0, x_t in steps]
    assert found == entry["steps"]


def test_a_learned_variance() -> None:
    """A step whose deviation differs from value to value."""
    entry = VECTORS["learned_variance"]
    x_t, x0, noise = (numbers(entry[name]) for name in ("x_t", "x0", "noise"))
    (t,), (s,) = numbers([entry["t"]], ">d"), numbers([entry["s"]], ">d")
    gamma = [port.f32(port.f32(v + 1) / 2) for v in numbers(entry["variance"])]
    assert (
        bits(port.ancestral(port_schedules.Linear(), x_t, x0, (t, s), noise, gamma))
        == entry["result"]
    )


@pytest.mark.parametrize("entry", VECTORS["thresholds"])
def test_thresholds(entry: Any) -> None:
    """Static, dynamic, and dynamic with a cap."""
    assert bits(port.threshold(numbers(entry["x0"]), entry)) == entry["result"]


def test_guidance() -> None:
    """The combination, and the weights of the oscillating form."""
    entry = VECTORS["guidance"]
    halves = numbers(entry["conditional"]), numbers(entry["unconditional"])
    assert bits(port.guided(*halves, entry["weight"])) == entry["result"]
    found = [port.oscillating(step, **entry["oscillating"]) for step in range(6)]
    assert found == entry["weights"]


@pytest.mark.parametrize("entry", VECTORS["projected_guidance"], ids=lambda e: e["prediction"])
def test_projected_guidance(entry: Any) -> None:
    """Along the clean picture, and along what a network predicts."""
    names = ("conditional", "unconditional", "x_t")
    conditional, unconditional, x_t = (numbers(entry[name]) for name in names)
    schedule, t = port_schedules.schedule_of(entry), port.f32(entry["t"])
    scales = (schedule.alpha(t), schedule.sigma(t))
    along = port.direction(entry["prediction"], conditional, x_t, scales)
    found = port.projected(conditional, unconditional, entry["weight"], along)
    assert bits(found) == entry["result"]


def planes(values: list[float], height: int, width: int) -> list[list[list[float]]]:
    """Values in C order as channels of rows."""
    rows = [values[at : at + width] for at in range(0, len(values), width)]
    return [rows[at : at + height] for at in range(0, len(rows), height)]


def test_pictures() -> None:
    """Bytes to values, enlarged, corrupted, and values to bytes."""
    entry = VECTORS["pictures"]
    pixels = entry["pixels"]
    low = [port.to_network(pixels[3 * at + c]) for c in range(3) for at in range(6)]
    assert bits(low) == entry["network"]
    for larger in entry["enlarged"]:
        made = [
            port.enlarge(plane, larger["factor"], larger["kind"])
            for plane in planes(low, entry["height"], entry["width"])
        ]
        assert bits([v for plane in made for row in plane for v in row]) == larger["result"]
    noisy = entry["augmented"]
    (level,) = numbers([noisy["level"]], ">d")
    noise = port_schedules.normals(
        18, noisy["seed"], noisy["image"], noisy["stage"], port_schedules.AUGMENTATION
    )
    schedule = port_schedules.Cosine()
    found = port.weighted((schedule.alpha(level), low), (schedule.sigma(level), noise))
    assert bits(found) == noisy["result"]
    rounding = entry["rounding"]
    assert [port.from_network(v) for v in numbers(rounding["x0"])] == rounding["levels"]


def test_tokens_of_the_page() -> None:
    """Those of the reference bundle's tokenizer."""
    bundle = numeric_vectors.ROOT / "bundles" / "emoji-1"
    tokenizer = PromptTokenizer((bundle / "tokenizer.json").read_bytes(), 64)
    found = " ".join(map(str, tokenizer("a red apple, noto style")))
    assert f'"a red apple, noto style" is `{found}`' in PAGE.read_text()


def test_contexts() -> None:
    """Handles and lengths."""
    for entry in VECTORS["contexts"]:
        assert port.handle(entry["rows"]).hex() == entry["handle"]
    assert [[tokens, port.length_of(tokens)] for tokens, _ in VECTORS["lengths"]] == (
        VECTORS["lengths"]
    )
