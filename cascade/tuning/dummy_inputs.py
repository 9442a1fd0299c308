"""Inputs that fit a component's graphs and mean nothing: for trying, timing and warming up.

Asks the component's family, which makes the same numbers for the same shapes every time. Knows the
manifest; no engine.
"""

from collections.abc import Mapping

from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import NET
from cascade.request import Handoff
from cascade.types import Array


def free_axes(component: ComponentSpec, *, batch: int, tokens: int) -> dict[str, int]:
    """Sizes of the free axes: the component's own resolution for height and width."""
    return family_of(component).dummy_run.axes(component, batch=batch, tokens=tokens)


def default_batch(component: ComponentSpec) -> int:
    """Rows of one run with the manifest's defaults."""
    return family_of(component).dummy_run.rows(component)


def default_shapes(component: ComponentSpec, role: str = NET) -> dict[str, tuple[int | None, ...]]:
    """Input shapes of a run with the manifest's defaults; None where requests differ in length."""
    sizes = free_axes(component, batch=default_batch(component), tokens=0)
    axes: dict[str, int | None] = {**sizes, "tokens": None}
    return {
        tensor.name: tuple(axes[n] if isinstance(n, str) else n for n in tensor.shape)
        for tensor in component.graphs[role].inputs
    }


def dummy_inputs(
    component: ComponentSpec, axes: Mapping[str, int], role: str = NET
) -> dict[str, Array]:
    """Every input of one graph by name, of its shape and dtype; see `DummyRun.inputs`."""
    return family_of(component).dummy_run.inputs(component, role, axes)


def dummy_handoff(component: ComponentSpec, *, tokens: int) -> Handoff:
    """What a component starts from.

    Args:
        component: its entry in the manifest.
        tokens: length of the context, where the component's graph leaves it open.
    """
    return family_of(component).dummy_run.start(component, tokens=tokens)
