"""What a network predicts, and how each prediction becomes an estimate of the clean image.

With `x_t = alpha x_0 + sigma epsilon`, all targets are linear in each other:
`v = alpha epsilon - sigma x_0`. The functions take arrays that broadcast against the image, so
numpy arrays and torch tensors both pass. They know no schedule, sampler or network.

References:
    Ho et al. 2020 (arXiv 2006.11239) for epsilon; Salimans and Ho 2022 (arXiv 2202.00512),
    section 4 and appendix D, for v; Liu et al. 2022, "Flow Straight and Fast" (arXiv 2209.03003),
    eq. 1, for the velocity, with the data at time 0.
"""

from typing import Any, Literal

Prediction = Literal["epsilon", "v", "x0", "flow"]
"""What the graph's output `prediction` is: the noise, v, the clean picture, or the velocity of a
rectified flow, `epsilon - x_0`."""


def x0_weights(kind: Prediction, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """Weights of `x_t` and of the prediction in the estimate of the clean image.

    Args:
        kind: what the network predicts.
        alpha: signal scale, above 0, any shape that broadcasts against the image.
        sigma: noise scale, of the same shape.

    Returns:
        Both of that shape.
    """
    if kind == "epsilon":
        return 1 / alpha, -sigma / alpha
    if kind == "v":
        return alpha, -sigma
    if kind == "flow":
        return 1 / (alpha + sigma), -sigma / (alpha + sigma)
    return 0 * alpha, 0 * sigma + 1


def to_x0(kind: Prediction, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """The estimate of the clean image that a prediction stands for; same shape as `x_t`."""
    from_x_t, from_prediction = x0_weights(kind, alpha, sigma)
    return from_x_t * x_t + from_prediction * prediction


def target(kind: Prediction, x0: Any, epsilon: Any, alpha: Any, sigma: Any) -> Any:
    """What a network of that kind must predict for a clean image and the noise added to it."""
    if kind == "epsilon":
        return epsilon
    if kind == "v":
        return alpha * epsilon - sigma * x0
    return epsilon - x0 if kind == "flow" else x0


def direction_weights(kind: Prediction, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """Weights of `x_t` and of the estimate of the clean image in a multiple of the prediction.

    No weight is divided by `sigma`, so that the direction is there at every time.

    Args:
        kind: what the network predicts.
        alpha: signal scale.
        sigma: noise scale.
    """
    if kind == "epsilon":
        return 1.0, -alpha
    if kind == "v":
        return alpha, -1.0
    return (1.0, -(alpha + sigma)) if kind == "flow" else (0.0, 1.0)
