"""Which components of a bundle a server hosts: those from a cut on, or those that are named.

Knows the configuration's two settings for it and a manifest; opens nothing.
"""

from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest
from runtime_server.config.config import ServerConfig


def hosted_positions(config: ServerConfig, manifest: Manifest) -> tuple[int, ...]:
    """Positions of the hosted components, rising.

    Raises:
        InvalidRequest: there are none, or one is named that the bundle does not have.
    """
    names = [component.name for component in manifest.components]
    wanted = config.component_names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise InvalidRequest(
            f"components: no component {unknown[0][:64]!r}; this bundle has {', '.join(names)}",
            field="components",
        )
    if config.cut >= len(names):
        raise InvalidRequest(
            f"cut: this bundle has {len(names)} components, a cut of {config.cut} hosts none of "
            "them",
            field="cut",
        )
    if not wanted:
        return tuple(range(config.cut, len(names)))
    return tuple(at for at, name in enumerate(names) if name in wanted)
