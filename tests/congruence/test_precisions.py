"""The first law in 8 bits: one request in one precision is the same picture at every cut."""

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import PrecisionMismatch
from cascade.events import Backend
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import plan_here
from runtime_client.client import Client
from tests.congruence.children import LocalAnswers, serving
from tests.support.reserved_port import reserved_address
from tests.support.tiny_bundle import write_tiny_bundle

REQUEST = GenerateRequest(prompt="a red apple, noto style", seed=11)
STAGES = ("base", "sr16", "sr32")


@pytest.fixture(scope="module", params=["ort", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines of processors."""
    if request.param == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed: its congruence is not tested")
    return str(request.param)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with an 8-bit file of every stage."""
    return write_tiny_bundle(tmp_path_factory.mktemp("eight") / "bundle", int8=True)


@pytest.fixture(scope="module")
def truth(eight: Bundle, engine: str) -> Iterator[LocalAnswers]:
    """Its pictures in 8 bits, made in this process."""
    local = LocalAnswers(eight, plan_here(eight.manifest, parse_engine_options(engine, "int8", 1)))
    yield local
    local.close()


@pytest.fixture(scope="module")
def server(eight: Bundle, engine: str) -> Iterator[str]:
    """A server that computes in 8 bits."""
    options = ("--engine", engine, "--precision", "int8")
    with reserved_address() as address, serving(eight, address, options=options) as child:
        yield child.address


def test_every_cut_makes_the_same_picture(
    eight: Bundle, truth: LocalAnswers, server: str, engine: str
) -> None:
    """Through a server of the same precision, each stage's picture byte for byte; not float32's."""
    expected = truth.images(REQUEST)
    for cut in (0, 2, 3, 4):
        settings = {"engine": engine, "precision": "int8", "cut": cut, "threads": 1}
        with Client(eight, server=server, **settings) as client:  # type: ignore[arg-type]
            result = client.run(REQUEST)
        for name, image in result.images.items():
            np.testing.assert_array_equal(image, expected[name], err_msg=f"{name} at cut {cut}")
        assert dict(result.computed) == {
            "text_encoder": Backend(engine, Precision.FP32),
            **dict.fromkeys(STAGES, Backend(engine, Precision.INT8)),
        }
    exact = LocalAnswers(eight)
    assert not np.array_equal(exact.images(REQUEST)["sr32"], expected["sr32"])
    exact.close()


def test_a_private_server_computes_as_this_side_would(
    eight: Bundle, truth: LocalAnswers, engine: str
) -> None:
    """It is started with this side's own choice."""
    with Client(eight, cut=2, engine=engine, precision="int8", threads=1) as client:
        result = client.run(REQUEST)
    np.testing.assert_array_equal(result.image, truth.images(REQUEST)["sr32"])
    assert result.computed["sr32"] == Backend(engine, Precision.INT8)


@pytest.mark.parametrize("precision", ["fp32", "sr32=fp32"])
def test_another_precision_is_refused(
    eight: Bundle, server: str, engine: str, precision: str
) -> None:
    """A client that asks for float32 gets no 8-bit picture, but an error that names the stage."""
    settings = {"engine": engine, "precision": precision, "cut": 2, "threads": 1}
    with (
        Client(eight, server=server, **settings) as client,  # type: ignore[arg-type]
        pytest.raises(
            PrecisionMismatch, match=r"computes sr[0-9]+ in int8, fp32 was asked"
        ) as refused,
    ):
        client.run(REQUEST)
    assert refused.value.field.startswith("precisions.sr")


def test_a_mixed_wish_is_kept(eight: Bundle, server: str, engine: str) -> None:
    """What runs here may be in another precision, if that is what was asked for."""
    settings = {"engine": engine, "precision": "base=fp32,sr32=int8", "cut": 2, "threads": 1}
    with Client(eight, server=server, **settings) as client:  # type: ignore[arg-type]
        result = client.run(REQUEST)
    assert result.computed["base"].precision is Precision.FP32
    assert result.computed["sr32"].precision is Precision.INT8
