"""What a network predicts, and how each prediction becomes an estimate of the clean image.

With `x_t = alpha x_0 + sigma epsilon`, the three targets are linear in each other:
`v = alpha epsilon - sigma x_0`. The functions take arrays that broadcast against the image, so
numpy arrays and torch tensors both pass. They know no schedule, sampler or network.

References:
    Ho et al. 2020 (arXiv 2006.11239) for epsilon; Salimans and Ho 2022 (arXiv 2202.00512),
    section 4 and appendix D, for v.
"""

from typing import Any, Literal

Prediction = Literal["epsilon", "v", "x0"]
"""What the graph's output `prediction` is."""


def to_x0(kind: Prediction, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """The estimate of the clean image that a prediction stands for; same shape as `x_t`."""
    if kind == "epsilon":
        return (x_t - sigma * prediction) / alpha
    if kind == "v":
        return alpha * x_t - sigma * prediction
    return prediction


def to_epsilon(x0: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """The noise that, with `x0`, explains `x_t`; same shape. Undefined where sigma is 0."""
    return (x_t - alpha * x0) / sigma


def target(kind: Prediction, x0: Any, epsilon: Any, alpha: Any, sigma: Any) -> Any:
    """What a network of that kind must predict for a clean image and the noise added to it."""
    if kind == "epsilon":
        return epsilon
    if kind == "v":
        return alpha * epsilon - sigma * x0
    return x0
