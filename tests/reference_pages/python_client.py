"""The public names of `runtime_client`, with the first paragraph of each docstring.

Knows the package's `__all__`; details are the API page's.
"""

import runtime_client
from tests.reference_pages.markdown import summary, table


def names() -> str:
    """The table."""
    rows = [
        (
            f"[`{name}`](api/runtime_client.md)",
            kind_of(name),
            summary(getattr(runtime_client, name)),
        )
        for name in runtime_client.__all__
    ]
    return table(("name", "kind", "meaning"), rows)


def kind_of(name: str) -> str:
    """Error, class or union of events."""
    thing = getattr(runtime_client, name)
    if isinstance(thing, type):
        return "error" if issubclass(thing, Exception) else "class"
    return "union of classes"
