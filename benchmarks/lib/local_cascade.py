"""A bundle's components on this machine, one call each: pictures without a server.

The product's own stages, engines and noise, as a client with everything on the device runs them.
Knows stages; not what their pictures are for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cascade.bundle.bundle import Bundle
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import StageError
from cascade.events import StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.stage_factory import open_stages
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import plan_here
from cascade.types import ContextF16, ImageU8

DEFAULTS = DiffusionOptions()


@dataclass(frozen=True, slots=True)
class LocalCascade:
    """Components opened here.

    Attributes:
        specs: the diffusion stages, the base stage first.
        stages: the same, opened.
        encode: a prompt to its embeddings.
        contexts: embeddings of the prompts met so far.
    """

    specs: tuple[DiffusionSpec, ...]
    stages: tuple[Stage, ...]
    encode: Callable[[str], ContextF16]
    contexts: dict[str, ContextF16] = field(default_factory=dict)

    def context(self, prompt: str) -> ContextF16:
        """The embeddings of a prompt, worked out once."""
        if prompt not in self.contexts:
            self.contexts[prompt] = self.encode(prompt)
        return self.contexts[prompt]

    def picture(
        self,
        number: int,
        prompt: str,
        *,
        image: ImageU8 | None = None,
        seed: int = 0,
        options: DiffusionOptions = DEFAULTS,
    ) -> ImageU8:
        """One stage's picture.

        Args:
            number: of the stage, 0 is the base stage.
            prompt: what the picture shows.
            image: what a super-resolution stage starts from.
            seed: of the noise.
            options: instead of the bundle's defaults.
        """
        request = GenerateRequest(seed=seed, options={self.specs[number].name: options})
        handoff = Handoff(context=self.context(prompt), image=image)
        return finished(self.stages[number], request, handoff)

    def pictures(
        self,
        prompt: str,
        *,
        seed: int = 0,
        last: int | None = None,
        base: DiffusionOptions = DEFAULTS,
    ) -> list[ImageU8]:
        """The pictures of all stages up to number `last`, each grown from the one before."""
        found: list[ImageU8] = []
        for number in range(len(self.stages) if last is None else last + 1):
            image = found[-1] if found else None
            options = DEFAULTS if found else base
            found.append(self.picture(number, prompt, image=image, seed=seed, options=options))
        return found

    def close(self) -> None:
        """Release the engines of the stages."""
        for stage in self.stages:
            stage.close()


def finished(stage: Stage, request: GenerateRequest, handoff: Handoff) -> ImageU8:
    """Run a stage to its picture."""
    for event in stage.run(request, handoff):
        if isinstance(event, StageFinished) and event.handoff.image is not None:
            return event.handoff.image
    raise StageError("the stage ended without a picture")


def open_cascade(
    bundle: Bundle, engine_options: EngineOptions
) -> tuple[LocalCascade, dict[str, str]]:
    """Every component of a bundle, opened as a client would, and how each is run."""
    plan = plan_here(bundle.manifest, engine_options)
    encoder, *stages = open_stages(bundle, range(len(bundle.manifest.components)), plan)

    def encode(prompt: str) -> ContextF16:
        for event in encoder.run(GenerateRequest(prompt=prompt), Handoff(prompt=prompt)):
            if isinstance(event, StageFinished) and event.handoff.context is not None:
                return event.handoff.context
        raise StageError("the text encoder ended without a context")

    run = {
        name: f"{choice.kind.value} {choice.precision.value}"
        for name, choice in plan.choices.items()
    }
    return LocalCascade(diffusion_specs(bundle.manifest.components), tuple(stages), encode), run
