"""`--from`: a request out of a picture's own metadata, and whether what comes is that picture.

Refuses what it cannot promise before any work where that can be known, else before a file is
written. Metadata is text from outside: every field is checked as one from the command line. Knows
metadata; neither formats nor a client.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.bundle.manifest import Manifest
from cascade.engines.kinds import EngineKind, installed_kinds
from cascade.errors import InvalidRequest
from cascade.events import Event, StageFinished
from cascade.precision import Precision
from cascade.request import FamilyOptions, GenerateRequest
from cascade.types import ImageU8
from runtime_client.cli.picture_metadata import SOFTWARE, pixels_digest
from runtime_client.cli.set_options import Choice, chosen

NEEDED = ("prompt", "seed", "image_index", "last_stage", "asked", "bundle_id", "computed", "pixels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Remake:
    """A picture to be made again."""

    source: Path
    request: GenerateRequest
    computed: Mapping[str, tuple[str, str]]
    """By component, engine and precision."""
    pixels: str

    @property
    def engine(self) -> str:
        """As `--engine`."""
        return ",".join(f"{name}={engine}" for name, (engine, _) in self.computed.items())

    @property
    def precision(self) -> str:
        """As `--precision`."""
        return ",".join(f"{name}={precision}" for name, (_, precision) in self.computed.items())

    def check_event(self, event: Event) -> None:
        """Raise `InvalidRequest` for a component that was computed in another way."""
        if not isinstance(event, StageFinished) or event.computed is None:
            return
        found = (event.computed.engine, event.computed.precision.value)
        # A component that the picture does not name may be computed by any engine.
        wanted = self.computed.get(event.stage, found)
        if found != wanted:
            raise self.cannot(
                f"{event.stage} was computed by {' '.join(wanted)}, and now by {' '.join(found)}"
            )

    def check_picture(self, image: ImageU8) -> None:
        """Raise `InvalidRequest` unless these are the pixels."""
        if pixels_digest(image) != self.pixels:
            raise self.cannot(
                "some pixels came out differently, as they may with other versions, processors or "
                "servers (its text names what it was made with)"
            )

    def cannot(self, why: str) -> InvalidRequest:
        """The error for a promise that cannot be kept."""
        return InvalidRequest(
            f"from: {self.source} cannot be made again: {why}; without --from, ask with its prompt "
            "and seed for one much like it",
            field="from",
        )


def remake_of(source: Path, metadata: Mapping[str, str], manifest: Manifest) -> Remake:
    """What makes a picture again.

    Args:
        source: the picture's file, for errors.
        metadata: the text that it holds.
        manifest: of the bundle to make it with.

    Raises:
        InvalidRequest: it is not ours, lacks something, or was made in a way that is not here.
    """

    def refuse(why: str) -> InvalidRequest:
        return InvalidRequest(f"from: {source}: {why}", field="from")

    if not metadata.get("software", "").startswith(SOFTWARE):
        raise refuse("no word of edge-cascade in it: not made by it, or its text was removed")
    if "request_id" in metadata and "prompt" not in metadata:
        raise refuse("it was fetched by its request id, and only the server knew what was asked")
    unheld = why_unheld(metadata)
    if unheld:
        raise refuse(f"{unheld} and its seed, {metadata.get('seed', '')[:20]}")
    if "sent_as" in metadata:
        raise refuse(
            f"a server sent it as {metadata['sent_as'][:20]}, which loses pixels: ask with its "
            f"prompt and its seed, {metadata.get('seed', '')[:20]}, for the exact ones"
        )
    missing = [name for name in NEEDED if name not in metadata]
    if missing:
        raise refuse(f"its text lacks {', '.join(missing)}; an older version may have written it")
    # An upgraded bundle also has the id of before: the pictures are the same.
    if metadata["bundle_id"] not in manifest.ids:
        raise refuse(
            f"made with bundle {metadata.get('bundle', '')!r} {metadata['bundle_id'][:12]}, "
            f"--bundle is {manifest.name!r} {manifest.bundle_id[:12]}"
        )
    try:
        computed = computed_in(metadata)
        request = request_in(metadata, manifest)
    except InvalidRequest as exc:
        raise refuse(str(exc)) from exc
    # Text from outside, of any JSON: a list where an object is meant, or brackets a thousand deep.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise refuse("its text is damaged") from exc
    return Remake(source=source, request=request, computed=computed, pixels=metadata["pixels"])


def hashed_vector(metadata: Mapping[str, str]) -> str:
    """The name of a vector whose numbers a picture does not hold; empty where there is none."""
    try:
        vectors = json.loads(metadata.get("vectors", "{}")).items()
    # Damaged text is refused where the request is read.
    except (ValueError, AttributeError, RecursionError):
        return ""
    return next((name[:64] for name, numbers in vectors if isinstance(numbers, str)), "")


def why_unheld(metadata: Mapping[str, str]) -> str:
    """What a picture was made of and does not hold, and how to ask; empty where it holds all."""
    ways = {
        "edit": "--edit",
        "kept": "`cascade upscale --kept`",
        "own_picture": "`cascade upscale`",
        "start_pixels": "--picture",
    }
    way = next((way for name, way in ways.items() if name in metadata), "")
    if way:
        return f"it began with a picture that it does not hold: ask with {way}"
    hashed = hashed_vector(metadata)
    return f"of its vector {hashed} it holds the hash alone: ask with --vector" if hashed else ""


def computed_in(metadata: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Engine and precision of every component, of kinds that we know."""
    found: dict[str, tuple[str, str]] = {}
    for name, way in json.loads(metadata["computed"]).items():
        engine, precision = str(way["engine"]), str(way["precision"])
        if engine not in list(EngineKind) or precision not in list(Precision):
            raise InvalidRequest(f"{name} was computed by {engine} {precision}, unknown here")
        found[str(name)] = (engine, precision)
    return found


def request_in(metadata: Mapping[str, str], manifest: Manifest) -> GenerateRequest:
    """What was asked for."""
    return GenerateRequest(
        # Empty where it began without one.
        prompt=metadata["prompt"] or None,
        negative=metadata.get("negative"),
        size=size_in(metadata),
        vectors=dict(json.loads(metadata.get("vectors", "{}"))),
        label=int(metadata["label"]) if "label" in metadata else None,
        seed=int(metadata["seed"]),
        image_index=int(metadata["image_index"]),
        first_stage=metadata.get("first_stage"),
        last_stage=metadata["last_stage"],
        options=options_in(metadata["asked"], manifest),
    )


def options_in(text: str, manifest: Manifest) -> dict[str, FamilyOptions]:
    """The choices that were made, by component.

    Raises:
        ValueError: one that no component takes; what is out of bounds, the request refuses.
    """
    found: dict[str, FamilyOptions] = {}
    for name, options in json.loads(text).items():
        for option, value in options.items():
            choice = Choice(str(name), str(option), str(value))
            try:
                found[name] = chosen(manifest, found.get(name), choice)
            except InvalidRequest as exc:
                raise ValueError(str(exc)) from exc
    return found


def size_in(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """The size that was asked for; None for the declared one."""
    if "size" not in metadata:
        return None
    width, height = json.loads(metadata["size"])
    return int(width), int(height)


def check_engines_here(remake: Remake, positions: Iterable[int], manifest: Manifest) -> None:
    """Raise `InvalidRequest` where an engine that is needed on this machine is not installed.

    Args:
        remake: what is to be made again.
        positions: the components that this machine runs.
        manifest: of the bundle.
    """
    kinds: tuple[Any, ...] = installed_kinds()
    for position in positions:
        name = manifest.components[position].name
        engine = remake.computed.get(name, ("", ""))[0]
        if engine and engine not in kinds:
            raise remake.cannot(f"{name} was computed by {engine}, which is not installed here")
