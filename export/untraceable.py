"""What torch cannot export, as one line that names the module and the reason.

torch's own error is a page of its next steps; which of a network's modules is meant stands in the
frames of its causes. Knows errors and modules; not graphs.
"""

from collections.abc import Iterator

import torch
from torch import nn

from cascade.errors import UnsupportedModel

LONGEST_REASON = 200


def untraceable(network: nn.Module, error: BaseException) -> UnsupportedModel:
    """The refusal of a network.

    Args:
        network: what was to be exported.
        error: what torch raised.
    """
    causes = list(chain_of(error))
    reason = next(line for cause in causes for line in [first_line(cause)] if line)
    module = next((found for cause in causes for found in [module_of(network, cause)] if found), "")
    where = f"{type(network).__name__}.{module}" if module else type(network).__name__
    return UnsupportedModel(f"{where}: torch cannot export it: {reason}", field=where)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error's causes, the first one first, then what they led to."""
    found: list[BaseException] = []
    last: BaseException | None = error
    while last is not None and last not in found:
        found.append(last)
        last = last.__cause__ or last.__context__
    return reversed(found)


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line}"[:LONGEST_REASON] if line else ""


def module_of(network: nn.Module, error: BaseException) -> str:
    """The path of the innermost module that an error came from; empty where it does not say."""
    paths = {id(module): path for path, module in network.named_modules()}
    found, trace = "", error.__traceback__
    while trace is not None:
        for value in trace.tb_frame.f_locals.values():
            if isinstance(value, nn.Module):
                found = paths.get(id(value), found)
            elif isinstance(value, torch.fx.Node):
                # A translation works on nodes, which remember the modules that made them.
                stack = list(value.meta.get("nn_module_stack", {}).values())
                found = str(stack[-1][0]) if stack else found
        trace = trace.tb_next
    return found
