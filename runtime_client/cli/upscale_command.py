"""What `cascade upscale` does: read the picture, ask for a larger one, and keep its transparency.

The function behind the command line. Knows the client and files; not how a stage takes other sizes.
"""

import argparse
from dataclasses import replace

from cascade.boundary import Image
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import bundle_or_default
from cascade.bundle.starting_points import last_enlargement
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest, KeptPicture
from cascade.types import PlaneU8
from runtime_client.cli.connection_flags import connection_config
from runtime_client.cli.edit_flags import vectors_of
from runtime_client.cli.generate_command import GenerateArgs, run_foreground
from runtime_client.cli.own_picture import OwnPixels, enlarged_alpha, read_own_picture
from runtime_client.cli.picture_format import check_transparency
from runtime_client.cli.set_options import parse_choice
from runtime_client.config import DEFAULT_CUT
from runtime_client.request_checks import check_request


def upscale(args: argparse.Namespace) -> None:
    """Make the larger picture and write it.

    Raises:
        CascadeError: nothing was written.
    """
    bundle = open_bundle(bundle_or_default(args.bundle), args.require_signature, runs=())
    kept = kept_of(args, bundle)
    pixels = None if kept is not None else read_own_picture(args.picture)
    request = GenerateRequest(
        picture=None if pixels is None else pixels.rgb,
        own_picture=kept is None,
        kept=kept,
        prompt=args.prompt,
        vectors=vectors_of(args),
        first_stage=args.first_stage,
        last_stage=args.last_stage,
        seed=args.seed,
        image_index=args.image_index,
    )
    alpha = None if pixels is None else larger_alpha(bundle, request, pixels)
    if alpha is not None:
        check_transparency(args.output)
    count = len(bundle.manifest.components)
    cut = (count if args.server is None else DEFAULT_CUT) if args.cut is None else args.cut
    config = replace(
        connection_config(args),
        cut=cut,
        threads=args.threads,
        engine=args.engine,
        precision=args.precision,
        picture_format=args.format,
    )
    wanted = GenerateArgs(
        bundle=bundle.folder,
        config=config,
        request=request,
        output=args.output,
        preview=None,
        as_json=args.json,
        quiet=args.quiet,
        alpha=alpha,
        choices=tuple(parse_choice(text) for text in args.choices),
    )
    run_foreground(wanted)


def kept_of(args: argparse.Namespace, bundle: Bundle) -> KeptPicture | None:
    """The kept picture that the flags name; None where they name a file.

    Raises:
        InvalidRequest: they name both, neither, or no stage that could be meant.
    """
    if args.kept is None:
        for name in ("kept_stage", "kept_size"):
            if getattr(args, name) is not None:
                flag = name.replace("_", "-")
                raise InvalidRequest(f"{flag}: it goes with --kept; give a request id", field=name)
        if args.picture is None:
            raise InvalidRequest("picture: name a picture, or --kept", field="picture")
        return None
    if args.picture is not None:
        raise InvalidRequest("kept: there is a PICTURE too; give one of them", field="kept")
    if args.server is None:
        raise InvalidRequest("kept: name the --server that keeps it", field="kept")
    stage = args.kept_stage or stage_before(args.first_stage, bundle)
    return KeptPicture(request_id=args.kept, stage=stage, size=args.kept_size)


def stage_before(first_stage: str | None, bundle: Bundle) -> str:
    """Name of the stage whose picture another one enlarges.

    Args:
        first_stage: the other one; the bundle's last enlargement when None.
        bundle: has both.

    Raises:
        InvalidRequest: there is no such stage, or nothing before it.
    """
    stages = [spec for spec in bundle.manifest.components if isinstance(spec.makes, Image)]
    names = [spec.name for spec in stages]
    first = first_stage or last_enlargement(bundle.manifest)
    if first not in names[1:]:
        raise InvalidRequest(
            f"first_stage: expected one of {', '.join(names[1:])}, got {first[:64]!r}",
            field="first_stage",
        )
    return names[names.index(first) - 1]


def larger_alpha(bundle: Bundle, request: GenerateRequest, pixels: OwnPixels) -> PlaneU8 | None:
    """The picture's transparency at the size that comes out; None for one without.

    Raises:
        InvalidRequest: the request does not fit the bundle.
    """
    checked = check_request(bundle.manifest, request)
    if pixels.alpha is None:
        return None
    made = checked.request.sizes[bundle.manifest.components[checked.last].name]
    return enlarged_alpha(pixels.alpha, made[0] // pixels.alpha.shape[1])
