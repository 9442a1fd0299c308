"""Forms proven: the numbers of the graph that they were made from, or of its torch network."""

import onnx

from cascade.codecs.shared_initializers import attach_initializers
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.graph_spec import ParityRecord, WebFormSpec
from cascade.weights.source import whole_graph
from export.exact_proof import IDENTICAL_DB, differing_values
from export.forms.usability import Usability, check_usable, usability
from export.forms.web import web_form
from export.parity import compare_engines
from export.passes.gate import synthetic_inputs
from export.proof import Claim


def verify_web_form(claim: Claim) -> tuple[WebFormSpec, bytes] | None:
    """The entry and the bytes of a form for browsers; its parity is that of the worst output.

    Args:
        claim: the stored graph and what it was proven against.

    Returns:
        None where browsers compute the stored graph right as it is.

    Raises:
        ParityError: the form is too far from the torch network.
    """
    stored = whole_graph(claim.graph)
    data = web_form(stored)
    if data is None:
        return None
    file = f"{claim.name}.web.onnx"
    engine = OrtEngine(attach_initializers(data, stored, file))
    records = [
        compare_engines(
            claim.original, engine, claim.cases, output, tolerance_abs=claim.tolerance_abs
        )
        for output in claim.outputs
    ]
    engine.close()
    return WebFormSpec(file=file, parity=max(records, key=worst)), data


def worst(record: ParityRecord) -> float:
    """What records are compared by."""
    return record.max_abs_error


def verify_phone_form(
    name: str, stored: bytes, form: onnx.ModelProto, *, exact: bool
) -> tuple[ParityRecord, dict[str, Usability]]:
    """Parity of a form for phones with the graph it was made from, and what accelerators take.

    Args:
        name: for errors.
        stored: the graph's own file, weights inside.
        form: as `export.forms.phone.phone_form` makes it.
        exact: whether parity is the very same bits: of stages of pixels.

    Raises:
        ParityError: it is too far from the stored graph, or MLProgram would take it in more than
            `export.forms.usability.MOST_PARTITIONS` pieces.
    """
    data = form.SerializeToString()
    case = synthetic_inputs(form, {})
    original, engine = OrtEngine(stored), OrtEngine(data)
    outputs = [info.name for info in form.graph.output]
    if exact:
        wanted, found = original.run(case), engine.run(case)
        for output in outputs:
            if differing_values(found[output], wanted[output]):
                raise ParityError(f"{name}: {output}: the form for phones has other bits")
        records = [ParityRecord(max_abs_error=0.0, psnr_db=IDENTICAL_DB, tolerance_abs=0.0)]
    else:
        records = [compare_engines(original, engine, [case], output) for output in outputs]
    original.close()
    engine.close()
    taken = usability(data)
    check_usable(name, taken)
    return max(records, key=worst), taken
