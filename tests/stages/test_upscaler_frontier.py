"""The frontier of the last stage: its first row is the network that is released."""

import torch

from benchmarks.upscaler_frontier import PlainStack, candidates, stirred
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import SR1024, as_released
from tests.support.tiny_training import unet_inputs


def test_the_first_candidate_is_the_released_network() -> None:
    """The others are measured against it; every one takes the inputs of the stage's graph."""
    first, *others = candidates().values()
    assert isinstance(first, EfficientUNet)
    assert first.config == as_released(SR1024).unet
    assert len(others) == 10


def test_plain_convolutions_answer_in_the_size_of_the_picture() -> None:
    """Whatever time and text say: they keep their places among the inputs and no more."""
    network = stirred(PlainStack(8, 2))
    inputs = unet_inputs(SR1024.unet)
    one = network(**inputs)
    assert one.shape == inputs["x_t"].shape
    inputs["t"] = inputs["t"] + 0.5
    assert torch.equal(network(**inputs), one)
