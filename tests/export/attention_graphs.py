"""Attention as the exporter of torch writes it, for the tests of passes."""

import onnx

from tests.export.pass_graphs import Recipe

WIDTH, HEADS = 24, 3
N, KEYS = 24, 5
"""As many queries as channels: an axis taken for another fits, and the numbers are wrong."""


def linear(recipe: Recipe, x: str, width: int) -> str:
    """A linear layer of random weights."""
    product = recipe.op("MatMul", x, recipe.normal(WIDTH, width, scale=WIDTH**-0.5))
    return str(recipe.op("Add", product, recipe.normal(width)))


def heads(recipe: Recipe, x: str) -> str:
    """`[B, N, C] -> [B, heads, N, C / heads]`."""
    cut = recipe.op("Reshape", x, recipe.ints(0, -1, HEADS, WIDTH // HEADS))
    return str(recipe.op("Transpose", cut, perm=[0, 2, 1, 3]))


def parts(recipe: Recipe, *, key_rows: int | str = "b") -> tuple[str, str, str]:
    """Query `[b, heads, 24, 8]`, keys turned, and values, from tokens `[b, n, 24]`."""
    x = recipe.input("x", ["b", N, WIDTH])
    text = recipe.input("text", [key_rows, KEYS, WIDTH])
    key = recipe.op("Transpose", heads(recipe, linear(recipe, text, WIDTH)), perm=[0, 1, 3, 2])
    return heads(recipe, linear(recipe, x, WIDTH)), key, heads(recipe, linear(recipe, text, WIDTH))


def merged(recipe: Recipe, mixed: str, *shape: int, perm: list[int] | None = None) -> str:
    """Heads put together; in another order or to another shape if asked."""
    turned = recipe.op("Transpose", mixed, perm=perm or [0, 2, 1, 3])
    return str(recipe.op("Reshape", turned, recipe.ints(*(shape or (0, -1, WIDTH)))))


def unmasked(kind: str, factor: float) -> onnx.ModelProto:
    """An attention without a mask, its logits multiplied or divided where a kind is given."""
    recipe = Recipe()
    query, key, value = parts(recipe)
    logits = recipe.op("MatMul", query, key)
    if kind:
        logits = recipe.op(kind, logits, recipe.constant(factor))
    mixed = recipe.op("MatMul", recipe.op("Softmax", logits, axis=-1), value)
    return recipe.model(merged(recipe, mixed), rank=3)
