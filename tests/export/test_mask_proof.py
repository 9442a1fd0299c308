"""A network that sees what its mask marks 0 is refused: texts are filled up to full lengths."""

from collections.abc import Mapping

import numpy as np
import pytest

from cascade.errors import ParityError
from cascade.types import Array
from export.components.mask_proof import prove_mask


class Pooling:
    """The mean of the tokens, with the mask or without; per token the token and that mean."""

    def __init__(self, *, minds_mask: bool) -> None:
        self.minds_mask = minds_mask

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Both outputs."""
        context, mask = inputs["context"], inputs["context_mask"][..., None]
        weights = mask if self.minds_mask else np.ones_like(mask)
        pooled = (context * weights).sum(1) / np.maximum(weights.sum(1), 1)
        return {"prediction": pooled, "context": context + pooled[:, None]}

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


def case(tokens: int) -> dict[str, Array]:
    """Two rows, the second one masked out whole."""
    context = np.random.default_rng(tokens).standard_normal((2, tokens, 4)).astype(np.float32)
    return {"context": context, "context_mask": np.array([[1.0] * tokens, [0.0] * tokens])}


@pytest.mark.parametrize("tokens", [1, 2, 5, 9])
@pytest.mark.parametrize(("output", "per_token"), [("prediction", False), ("context", True)])
def test_a_network_that_minds_its_mask_passes(tokens: int, output: str, per_token: bool) -> None:  # noqa: FBT001
    """Whatever lies beyond the text."""
    prove_mask("base", Pooling(minds_mask=True), case(tokens), output, per_token=per_token)


@pytest.mark.parametrize(("output", "per_token"), [("prediction", False), ("context", True)])
def test_a_network_that_does_not_is_refused(output: str, per_token: bool) -> None:  # noqa: FBT001
    """Component and mask are named."""
    with pytest.raises(ParityError, match="base: tokens whose context_mask is 0") as caught:
        prove_mask("base", Pooling(minds_mask=False), case(5), output, per_token=per_token)
    assert caught.value.field == "context_mask"


def test_without_a_mask_there_is_nothing_to_prove() -> None:
    """Such a network is shown the text alone."""
    prove_mask("base", Pooling(minds_mask=False), {"x_t": np.ones((1, 3))}, "x", per_token=False)
