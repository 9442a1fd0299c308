"""Where each request of a client runs, and how its picture travels: as configured, or as planned.

Knows the configuration and runs; how a choice comes about, `planning` knows, which is imported
where there is something to choose.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest
from cascade.events import Event
from runtime_client.config import DEFAULT_CUT, ClientConfig
from runtime_client.deadline import Deadline
from runtime_client.placed_run import FALL_BACK_ON, ClientParts, PlacedRun
from runtime_client.placement import Placement, placement_of
from runtime_client.request_checks import CheckedRequest
from runtime_client.result import Collected

if TYPE_CHECKING:
    from runtime_client.planning.capacity import CapacityPlan
    from runtime_client.planning.placement_plan import PlacementPlan, WhatIf
    from runtime_client.planning.planner import Planner


class PlacementChooser:
    """Begins the requests of one client where they are to run."""

    def __init__(self, parts: ClientParts) -> None:
        """Nothing is asked yet.

        Args:
            parts: of the client; their placement is the one that is configured.
        """
        self._parts = parts
        self._planner = planner_of(parts)

    def plan(
        self, checked: CheckedRequest, deadline: Deadline, what_if: "WhatIf | None" = None
    ) -> "PlacementPlan":
        """See `Client.plan`."""
        if self._planner is None:
            raise InvalidRequest(
                "plan: name a server, and set cut or placement to auto, or a time within which "
                "the picture is wanted: else nothing is chosen",
                field="server",
            )
        return self._planner.plan(checked, deadline, what_if=what_if)

    def capacity(self, checked: CheckedRequest, deadline: Deadline, cut: int) -> "CapacityPlan":
        """See `Client.capacity`."""
        if self._planner is not None:
            return self._planner.capacity(checked, deadline, cut)
        if self._parts.config.server is not None:
            raise InvalidRequest(
                "capacity: with a server, set cut or placement to auto", field="placement"
            )
        from runtime_client.planning.facts import nothing_known  # noqa: PLC0415
        from runtime_client.planning.replica import PlannedWork, capacity_here  # noqa: PLC0415

        work = PlannedWork(
            bundle=self._parts.bundle,
            request=checked.request,
            positions=checked.positions,
            cut=cut,
            known=nothing_known(),
        )
        return capacity_here(work, self._parts.config.engine_options)

    def run(
        self,
        checked: CheckedRequest,
        collected: Collected,
        deadline: Deadline,
        *,
        ends_there: bool,
    ) -> PlacedRun:
        """A request with a place for each of its components.

        Args:
            checked: the request.
            collected: has its id.
            deadline: when it must be over.
            ends_there: whether a server must make the end of it.
        """
        if self._planner is None:
            return PlacedRun(self._parts, checked, collected, deadline)
        try:
            plan = self._planner.plan(checked, deadline, ends_there=ends_there)
        except FALL_BACK_ON:
            if self._parts.config.fallback == "error":
                raise
            # At the default cut the request meets the same, and falls back as always.
            return PlacedRun(self._parts, checked, collected, deadline)
        if not self._parts.config.is_auto:
            return PlacedRun(self._parts, checked, collected, deadline, plan)
        parts = replace(self._parts, placement=self._planner.placement(plan, checked))
        return PlacedRun(parts, checked, collected, deadline, plan)

    def events(self, run: PlacedRun) -> Generator[Event, None, None]:
        """The events of a run; the planner learns from one that it planned."""
        if self._planner is None or run.plan is None:
            yield from run.events()
            return
        watched = self._planner.begin(run.plan, run.checked)
        with closing(run.events()) as events:
            for event in events:
                self._planner.note(watched, event)
                yield event
        if not run.fell_back:
            self._planner.finish(watched)

    def wait(self) -> None:
        """Until everything that was begun between requests is done."""
        if self._planner is not None:
            self._planner.wait()

    def stop(self) -> None:
        """Begin nothing more."""
        if self._planner is not None:
            self._planner.stop()

    def close(self) -> None:
        """End; what is under way ends with its call or its component."""
        if self._planner is not None:
            self._planner.close()


def planner_of(parts: ClientParts) -> "Planner | None":
    """What chooses placements and formats; None where both are given, or there is one place."""
    config = parts.config
    if config.server is None or not (config.is_auto or config.chooses_format):
        return None
    from runtime_client.planning.planner import Planner  # noqa: PLC0415

    given = None if config.is_auto else parts.placement
    return Planner(parts.bundle, config, parts.resources, parts.precisions, given=given)


def configured_placement(manifest: Manifest, config: ClientConfig) -> Placement:
    """Where a configuration places a bundle's components, where none is chosen for a request.

    Chosen ones fall back to the default cut; without a server there is nothing to choose.
    """
    cut, placed = config.cut, config.placed
    if config.is_auto:
        count = len(manifest.components)
        cut = count if config.server is None else min(DEFAULT_CUT, count)
        placed = None
    return placement_of(manifest, int(cut), placed, config.server)
