"""What `cascade upscale` does: read the picture, ask for a larger one, and keep its transparency.

The function behind the command line. Knows the client and files; not how a stage takes other sizes.
"""

import argparse
from dataclasses import replace

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import bundle_or_default
from cascade.request import GenerateRequest
from cascade.types import PlaneU8
from runtime_client.cli.connection_flags import connection_config
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
    pixels = read_own_picture(args.picture)
    request = GenerateRequest(
        picture=pixels.rgb,
        own_picture=True,
        prompt=args.prompt,
        first_stage=args.first_stage,
        last_stage=args.last_stage,
        seed=args.seed,
        image_index=args.image_index,
    )
    folder = bundle_or_default(args.bundle)
    bundle = open_bundle(folder, args.require_signature)
    alpha = larger_alpha(bundle, request, pixels)
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
    )
    wanted = GenerateArgs(
        bundle=folder,
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
