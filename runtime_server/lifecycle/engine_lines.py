"""What runs each component, as part of the log: at the start and after a reload.

An operator who installed an engine for a card must not have to guess whether it is used.
"""

from cascade.system.nvidia import card_names
from cascade.tuning.hints import SILENCED, hints_of, hints_wanted
from runtime_server.core import Core
from runtime_server.telemetry.logs import log_event


def engine_words(core: Core) -> dict[str, str]:
    """Engine, precision and device of each component: `ort fp32 on CPU`."""
    return {c.name: f"{c.engine} {c.precision} on {c.device}" for c in core.info().components}


def log_hints(core: Core) -> None:
    """Warn once of a card that is not used, and of engines that were chosen unmeasured."""
    if hints_wanted():
        for hint in hints_of(core.plan, card_names()):
            log_event(hint.event, level="warning", text=f"{hint.text} ({SILENCED})")
