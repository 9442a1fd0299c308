"""Whether a request fits a bundle, checked before any work.

A wrong option of the last stage must not cost the minutes of the first. Knows the manifest; opens
nothing.
"""

from cascade.bundle.manifest import Manifest
from cascade.diffusion.options import resolve_options
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest


def check_request(manifest: Manifest, request: GenerateRequest) -> int:
    """The position of the component that the request ends with.

    Raises:
        InvalidRequest: no prompt, a name that the bundle does not have, or an option that does not
            fit its component.
    """
    if request.prompt is None:
        raise InvalidRequest("prompt: it is missing; say what the picture shows", field="prompt")
    names = [component.name for component in manifest.components]
    listed = ", ".join(names)
    for name, options in request.options.items():
        if name not in names:
            raise InvalidRequest(
                f"options: no component {name!r}; this bundle has {listed}", field="options"
            )
        component = manifest.components[names.index(name)]
        if isinstance(component, DiffusionSpec):
            resolve_options(component, options)
        elif options != DiffusionOptions():
            raise InvalidRequest(
                f"options.{name}: the text encoder takes none", field=f"options.{name}"
            )
    if request.last_stage is None:
        return len(names) - 1
    if request.last_stage not in names[1:]:
        raise InvalidRequest(
            f"last_stage: expected one of {', '.join(names[1:])}, got {request.last_stage!r}",
            field="last_stage",
        )
    return names.index(request.last_stage)
