"""What a user should know before pictures take longer than they need: an idle card, no measurement.

Said once per process, by `cascade generate` and `cascade serve`. Pure but for `hints_wanted`, which
reads a variable.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cascade.engines.gpus import GPU_KINDS
from cascade.tuning.plan import EnginePlan

VARIABLE, OFF = "CASCADE_HINTS", "off"
SILENCED = f"{VARIABLE}={OFF} silences this"


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing to know.

    Attributes:
        event: what it is about, as a server's log calls it.
        text: what is so, and what to run.
    """

    event: Literal["gpu_unused", "untuned"]
    text: str


def hints_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether hints are to be said at all."""
    return environment.get(VARIABLE, "") != OFF


def hints_of(plan: EnginePlan, cards: Sequence[str]) -> tuple[Hint, ...]:
    """What a plan gives reason to say; nothing of components whose engine was named.

    Args:
        plan: made for this machine.
        cards: names of the cards of this machine.
    """
    found = []
    guessed = [name for name in plan.choices if name not in plan.named]
    used = any(choice.kind in GPU_KINDS for choice in plan.choices.values())
    # One that can be used and is not was measured, and found slower.
    if cards and guessed and not used and not plan.gpus.usable:
        why = "; ".join(f"{kind}: {reason}" for kind, reason in plan.unused)
        found.append(
            Hint(
                "gpu_unused",
                f"{cards[0]} is here and not used: {why or 'no engine for GPUs is installed'}; "
                "`cascade doctor` says what to install",
            )
        )
    if plan.untuned:
        names = ", ".join(plan.untuned)
        found.append(
            Hint(
                "untuned",
                f"no engine has been measured on this machine for {names}: run `cascade tune`",
            )
        )
    return tuple(found)


def as_line(hints: Sequence[Hint]) -> str:
    """All of them in one line for people; empty without any."""
    return f"{'; '.join(hint.text for hint in hints)} ({SILENCED})" if hints else ""
