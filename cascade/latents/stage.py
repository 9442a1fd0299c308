"""One half of an autoencoder as a stage: a picture to a latent, or a latent to a picture.

Knows pictures and latents; not the stage that works on latents, nor where it runs.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from cascade.boundary import Tensor
from cascade.codecs.image import from_network, to_network
from cascade.codecs.latent import as_latent
from cascade.engine import Engine
from cascade.engine_clock import EngineClock
from cascade.errors import StageError
from cascade.events import Backend, Event, Progress, StageFinished
from cascade.graph_spec import NET
from cascade.latents.spec import AutoencoderSpec
from cascade.latents.tiled import TiledRun
from cascade.numerics.finite import is_finite
from cascade.request import GenerateRequest, Handoff
from cascade.start_inputs import latent, low_image
from cascade.types import Batch

UNIT = "tile"
"""What progress counts."""


class AutoencoderStage:
    """Runs the exported half of an autoencoder."""

    def __init__(
        self, spec: AutoencoderSpec, engine: Engine, computed: Backend | None = None
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._computed = computed

    @property
    def names(self) -> tuple[str, ...]:
        """The one component it runs."""
        return (self._spec.name,)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """What runs its one graph, under the role `net`."""
        return {NET: self._engine}

    def with_engines(self, engines: Mapping[str, Engine]) -> "AutoencoderStage":
        """The same stage on another engine; see `EngineStage.with_engines`."""
        return AutoencoderStage(self._spec, engines[NET], self._computed)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Encode or decode the handoff; see `Stage.run`.

        Raises:
            StageError: the network has no finite answer, or one of another shape.
        """
        del request
        begun, clock = time.perf_counter(), EngineClock()
        spec, name = self._spec, self._spec.name
        planes = start_planes(spec, handoff)
        run = TiledRun(spec, clock.on(self.engines)[NET])
        for done in run.tiles(planes):
            yield Progress(name, done, run.count, UNIT)
        yield StageFinished(
            name,
            finished(spec, handoff, run.result),
            {name: time.perf_counter() - begun},
            self._computed,
            clock.seconds,
        )

    def terminate(self) -> None:
        """End the run in progress."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


def start_planes(spec: AutoencoderSpec, handoff: Handoff) -> Batch:
    """What a handoff holds as the network takes it, `[1, C, H, W]` float32.

    Raises:
        InvalidRequest: it lacks the picture or latent, or holds one of another shape.
    """
    if spec.picture is not None and spec.encodes:
        return to_network(low_image(spec.name, spec.picture.shape, handoff))
    if spec.latent is None:
        raise StageError(f"{spec.name}: its entry names no latent")
    given = latent(spec.name, spec.latent, handoff)[None].astype(np.float32)
    # Divided and added in single precision, each rounded by itself: the same bits everywhere.
    return np.asarray(given / np.float32(spec.scaling) + np.float32(spec.shift), np.float32)


def finished(spec: AutoencoderSpec, handoff: Handoff, made: Batch | None) -> Handoff:
    """The handoff to the next component.

    Args:
        spec: the component's entry.
        handoff: what it started from.
        made: the network's answer, `[1, C, H, W]` float32.

    Raises:
        StageError: it is of another shape, or not finite.
    """
    if made is None or not is_finite(made):
        raise StageError(
            f"{spec.name}: holds NaN or infinity: the network overflowed; try another precision "
            "or engine",
            field=spec.name,
        )
    image = tensor = None
    if isinstance(spec.makes, Tensor):
        scaled = (made - np.float32(spec.shift)) * np.float32(spec.scaling)
        tensor = as_latent(spec.name, scaled, spec.makes)
    else:
        image = from_network(made)
        if image.shape != spec.makes.shape:
            raise StageError(
                f"{spec.name}: made {list(image.shape)}, expected {list(spec.makes.shape)}"
            )
    return replace(handoff, label=None, image=image, tensor=tensor)
