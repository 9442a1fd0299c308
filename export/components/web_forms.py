"""A component's form for browsers as part of a bundle: proven, kept, reported."""

from collections.abc import Callable

from cascade.graph_spec import WebFormSpec
from export.forms.verify import verify_web_form
from export.proof import Claim


def add_web_form(claim: Claim, report: Callable[[str], None]) -> dict[WebFormSpec, bytes]:
    """The manifest's entry and its file; none where browsers compute the stored graph right.

    Args:
        claim: the stored graph and what it was proven against.
        report: called with a line about the form.

    Raises:
        ParityError: the form is too far from the torch network.
    """
    made = verify_web_form(claim)
    if made is None:
        report(f"{claim.name:13} for browsers: the graph as it is")
        return {}
    form, data = made
    report(
        f"{claim.name:13} for browsers: max abs error {form.parity.max_abs_error:.1e}, "
        f"{form.parity.psnr_db:.1f} dB, {len(data) / 1e6:.2f} MB besides the shared weights"
    )
    return {form: data}
