"""A component's forms for compilers of GPUs as part of a bundle: proven, kept, reported.

Knows bundles in the making; not how a form is made.
"""

from cascade.graph_spec import GpuFormSpec
from export.bundle_parts import BundleParts, ExportOptions, Report
from export.gpu_variant.verify import FormSource, prove_gpu_form


def add_gpu_forms(
    parts: BundleParts, source: FormSource, options: ExportOptions, report: Report
) -> tuple[GpuFormSpec, ...]:
    """Prove the forms asked for and keep their files; the manifest's entries."""
    made = []
    for precision in sorted(options.gpu_forms):
        form, data = prove_gpu_form(source, precision)
        parts.files[form.file] = data
        report(
            f"{source.name:13} for GPUs, {precision}: max abs error "
            f"{form.parity.max_abs_error:.1e}, {form.parity.psnr_db:.1f} dB, "
            f"{len(data) / 1e6:.2f} MB besides the shared weights"
        )
        made.append(form)
    return tuple(made)
