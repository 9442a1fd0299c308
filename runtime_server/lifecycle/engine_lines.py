"""What runs each component, as part of the log: at the start and after a reload.

An operator who installed an engine for a card must not have to guess whether it is used.
"""

from runtime_server.runtime.core import Core
from runtime_server.telemetry.logs import log_event


def engine_words(core: Core) -> dict[str, str]:
    """Engine, precision and device of each component: `ort fp32 on CPU`."""
    return {c.name: f"{c.engine} {c.precision} on {c.device}" for c in core.info().components}


def warn_of_engines(core: Core) -> None:
    """Warn where an engine for cards is installed and nobody measured which one is fastest."""
    if core.plan.warning and core.plan.has_gpu_engines:
        log_event("untuned", level="warning", text=core.plan.warning)
