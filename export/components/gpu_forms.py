"""A component's forms for compilers of GPUs as part of a bundle: proven, kept, reported."""

from collections.abc import Callable, Iterable

from cascade.graph_spec import GpuFormSpec
from cascade.precision import Precision
from export.gpu_variant.verify import GpuFormSource, verify_gpu_form


def add_gpu_forms(
    source: GpuFormSource,
    precisions: Iterable[Precision],
    *,
    required: bool,
    report: Callable[[str], None],
) -> dict[GpuFormSpec, bytes]:
    """The forms asked for: the manifest's entries and their files.

    A component without layers that are worth a form goes without, and the report says so.

    Args:
        source: what the forms are made of.
        precisions: of the forms.
        required: whether going without is an error.
        report: called with a line about each form.

    Raises:
        ParityError: a form is too far from the torch network.
        ValueError: no form can be made, and one is required.
    """
    made = {}
    for precision in sorted(precisions):
        try:
            form, data = verify_gpu_form(source, precision)
        except ValueError as exc:
            if required:
                raise
            report(f"{source.name:13} without a form for GPUs in {precision}: {exc}")
            continue
        report(
            f"{source.name:13} for GPUs, {precision}: max abs error "
            f"{form.parity.max_abs_error:.1e}, {form.parity.psnr_db:.1f} dB, "
            f"{len(data) / 1e6:.2f} MB besides the shared weights"
        )
        made[form] = data
    return made
