"""A torch network behind the engine contract, so that the same stage code runs it.

What samples during training and what export compares against: the very sampler, noise and guidance
of the product, with the original network in place of the exported graph.
"""

from collections.abc import Mapping

import torch
from torch import nn

from cascade.types import Array


class TorchEngine:
    """Runs a network on the CPU; see `cascade.engine.Engine`."""

    def __init__(self, network: nn.Module, *outputs: str) -> None:
        """Wrap a network.

        Args:
            network: takes the graph's inputs as keyword arguments; returns one tensor, or a tuple
                of as many as there are outputs.
            outputs: their names.
        """
        self._network = network.eval()
        self._outputs = outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, float32, of inputs by name in the shapes that the network takes."""
        tensors = {name: torch.from_numpy(value.copy()) for name, value in inputs.items()}
        with torch.no_grad():
            found = self._network(**tensors)
        values = found if isinstance(found, tuple) else (found,)
        named = zip(self._outputs, values, strict=True)
        return {name: value.float().numpy() for name, value in named}

    def terminate(self) -> None:
        """Nothing to end: a run is one call of this thread."""

    def close(self) -> None:
        """Nothing to release."""
