"""A picture or a latent taken through a network tile by tile.

Tiles overlap by a quarter and are joined as those of a sampled picture are. A network that looks at
the whole picture, by a norm or by attention, makes another one of tiles than of the whole: how a
component is tiled is part of its entry, and the same on every machine. Knows one engine and sizes;
not what a latent means.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from cascade.engine import Engine
from cascade.latents.spec import AutoencoderSpec
from cascade.numerics.tile_joins import put
from cascade.types import Array, Batch


class TiledRun:
    """One run of an autoencoder's half over all of its tiles."""

    def __init__(self, spec: AutoencoderSpec, engine: Engine) -> None:
        """A run.

        Args:
            spec: the component's entry.
            engine: runs its graph.
        """
        self._engine = engine
        self._tall, self._wide = spec.tiles
        (self._taken,) = [tensor.name for tensor in spec.graph.inputs]
        (self._made,) = [tensor.name for tensor in spec.graph.outputs]
        factor = spec.factor
        # Tiles are counted in numbers of the latent; on the picture's side each is `factor` pixels.
        self._in, self._out = (factor, 1) if spec.encodes else (1, factor)
        self.result: Batch | None = None
        """`[1, C, H, W]` float32, once every tile was run."""

    @property
    def count(self) -> int:
        """Tiles in all."""
        return len(self._tall.starts) * len(self._wide.starts)

    def tiles(self, planes: Batch) -> Iterator[int]:
        """Run tile after tile, from the top left, yielding how many are done.

        Args:
            planes: `[1, C, H, W]` float32, all of the picture or of the latent.

        Raises:
            EngineError: the graph cannot run.
        """
        done, below = 0, 0
        for top in self._tall.starts:
            strip: Array | None = None
            right = 0
            for left in self._wide.starts:
                part = self._run(planes, top, left)
                if strip is None:
                    strip = np.empty((*part.shape[:3], self._out * self._wide.length), np.float32)
                put(strip.swapaxes(2, 3), part.swapaxes(2, 3), self._out * left, right)
                right = self._out * (left + self._wide.tile)
                done += 1
                if done < self.count:
                    yield done
            self._join(strip, self._out * top, below)
            below = self._out * (top + self._tall.tile)
        yield done

    def _run(self, planes: Batch, top: int, left: int) -> Array:
        """The network's answer for one tile, `[1, C, h, w]` float32."""
        rows = slice(self._in * top, self._in * (top + self._tall.tile))
        columns = slice(self._in * left, self._in * (left + self._wide.tile))
        tile: Mapping[str, Array] = {
            self._taken: np.ascontiguousarray(planes[:, :, rows, columns], np.float32)
        }
        return self._engine.run(tile)[self._made]

    def _join(self, strip: Array | None, start: int, end: int) -> None:
        """Put a row of tiles below those before it."""
        if strip is None:
            return
        if self.result is None:
            shape = (*strip.shape[:2], self._out * self._tall.length, strip.shape[3])
            self.result = np.empty(shape, np.float32)
        put(self.result, strip, start, end)
