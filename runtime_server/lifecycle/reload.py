"""Another bundle while the server runs: loaded, verified and warmed up beside the present one.

Only then do new requests go to it. Whatever is wrong with it, nothing changes, and the log and the
answer say why. Knows configurations and cores; who asks, and by what signal, is known elsewhere.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from cascade.boundary import in_words
from cascade.bundle.manifest import Manifest
from cascade.errors import CascadeError, InvalidRequest
from runtime_server.app.bundle_generations import BundleGenerations
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core
from runtime_server.lifecycle.engine_lines import engine_words, log_hints
from runtime_server.telemetry.logs import log_error, log_event
from runtime_server.telemetry.server_events import BundleReloaded, Emit, ReloadOutcome

RELOADED: frozenset[str] = frozenset(
    {
        "bundle",
        "engine",
        "precision",
        "require_signature",
        "threads",
        "max_batch_rows",
        "max_batch_bytes",
    }
)
"""Settings that a reload takes over; the others are those of the start until the next one."""

Reread = Callable[[], ServerConfig]
Load = Callable[[ServerConfig], Core]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadAnswer:
    """What came of a reload."""

    outcome: ReloadOutcome
    bundle_id: str
    """Of the bundle that new requests take now."""
    message: str = ""
    """Why it was refused."""
    need_restart: tuple[str, ...] = ()
    """Settings that differ from the start's and are not taken over."""


class Reloader:
    """Reloads the bundle of one server, one at a time."""

    def __init__(
        self,
        generations: BundleGenerations,
        config: ServerConfig,
        reread: Reread,
        load: Load,
        emit: Emit,
    ) -> None:
        """Nothing reloaded yet.

        Args:
            generations: where the new core moves in.
            config: of the start.
            reread: the configuration as it is written now.
            load: opens, verifies and warms up; called from another thread.
            emit: where what came of each reload is told.
        """
        self._generations = generations
        self._config = config
        self._reread = reread
        self._load = load
        self._lock = asyncio.Lock()
        self._emit = emit

    async def reload(self) -> ReloadAnswer:
        """Take what the configuration says now; see the module."""
        # One at a time: two would load two bundles, and the earlier could win.
        async with self._lock:
            try:
                answer = await self._try()
            except Exception as exc:  # noqa: BLE001 - whatever is wrong, the server goes on
                answer = self._refusal(exc)
        log_event(
            "reload",
            level="error" if answer.outcome == "refused" else "info",
            outcome=answer.outcome,
            bundle_id=answer.bundle_id,
            message=answer.message,
            need_restart=list(answer.need_restart),
            engines=engine_words(self._generations.present.core),
        )
        self._emit(BundleReloaded(answer.outcome))
        return answer

    async def _try(self) -> ReloadAnswer:
        """Load, compare, move."""
        written = await asyncio.to_thread(self._reread)
        config = replace(self._config, **{name: getattr(written, name) for name in taken_over()})
        late = tuple(
            field.name
            for field in fields(ServerConfig)
            if getattr(config, field.name) != getattr(written, field.name)
        )
        present = self._generations.present.core
        core = await self._beside(present, config)
        same = core.bundle_id == present.bundle_id and config == present.config
        try:
            check_same_cut(present.manifest, core.manifest, min(core.hosted))
        except InvalidRequest:
            await asyncio.to_thread(core.close)
            present.executor.take_back()
            raise
        if same:
            await asyncio.to_thread(core.close)
            present.executor.take_back()
        else:
            self._generations.swap(core)
            log_hints(core)
            core.executor.measure_beside()
        outcome: ReloadOutcome = "unchanged" if same else "reloaded"
        return ReloadAnswer(outcome=outcome, bundle_id=core.bundle_id, need_restart=late)

    async def _beside(self, present: Core, config: ServerConfig) -> Core:
        """The next core beside the present one: memory for two, and no call waits.

        Replicas are replaced one after the other where the machines have no room for both.
        """
        await asyncio.to_thread(present.executor.give_way)
        try:
            return await asyncio.to_thread(self._load, config)
        except Exception:
            present.executor.take_back()
            raise

    def _refusal(self, error: Exception) -> ReloadAnswer:
        """The answer to a reload that failed."""
        if isinstance(error, CascadeError):
            message = " ".join(str(error).split())
        else:
            log_error(error, "reload", "")
            message = f"{type(error).__name__}: see internal_error in the log"
        return ReloadAnswer(
            outcome="refused", bundle_id=self._generations.present.core.bundle_id, message=message
        )


def taken_over() -> list[str]:
    """The settings of `RELOADED` that this configuration has."""
    return [field.name for field in fields(ServerConfig) if field.name in RELOADED]


def check_same_cut(old: Manifest, new: Manifest, cut: int) -> None:
    """Refuse a bundle whose hosted part begins elsewhere: devices would send what does not fit.

    Args:
        old: of the present bundle.
        new: of the next one.
        cut: the first hosted position.

    Raises:
        InvalidRequest: the first hosted components start from different things.
    """
    was, is_now = begins_from(old, cut), begins_from(new, cut)
    if was != is_now:
        raise InvalidRequest(
            f"bundle: at cut {cut} it starts from {is_now}, the present one from {was}: "
            "start another server for it",
            field="bundle",
        )


def begins_from(manifest: Manifest, cut: int) -> str:
    """What the component at a position starts from."""
    return in_words(manifest.components[cut].starts_from)
