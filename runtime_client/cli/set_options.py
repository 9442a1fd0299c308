"""`--set STAGE.OPTION=VALUE`: any option of any family, by the fields of its options dataclass.

The flags are not known before the bundle is: which options a component has, its family says. Knows
text and manifests.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

from cascade.assignments import parse_assignment
from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest
from cascade.families import family_of
from cascade.request import FamilyOptions, GenerateRequest


@dataclass(frozen=True, slots=True)
class Choice:
    """One option of one component, as it was typed."""

    component: str
    option: str
    value: str


def parse_choice(text: str) -> Choice:
    """`base.steps=4`.

    Raises:
        InvalidRequest: a part is missing.
    """
    try:
        left, value = parse_assignment(text)
        component, option = left.split(".")
    except ValueError:
        raise InvalidRequest(
            f"set: expected STAGE.OPTION=VALUE, got {text[:80]!r}", field="set"
        ) from None
    return Choice(component, option, value)


def with_choices(
    manifest: Manifest, request: GenerateRequest, choices: Iterable[Choice]
) -> GenerateRequest:
    """The request with further options.

    Raises:
        InvalidRequest: no such component, no such option, no such value, or an option given twice.
    """
    options: dict[str, FamilyOptions] = dict(request.options)
    for choice in choices:
        options[choice.component] = chosen(manifest, options.get(choice.component), choice)
    return replace(request, options=options)


def chosen(manifest: Manifest, present: FamilyOptions | None, choice: Choice) -> FamilyOptions:
    """The options of one component with one more."""
    names = [component.name for component in manifest.components]
    if choice.component not in names:
        raise InvalidRequest(
            f"set: no component {choice.component!r}; this bundle has {', '.join(names)}",
            field="set",
        )
    kind = family_of(manifest.components[names.index(choice.component)]).options_type
    known = [field.name for field in fields(kind)]
    field = f"options.{choice.component}.{choice.option}"
    if choice.option not in known:
        listed = ", ".join(known) or "none"
        raise InvalidRequest(
            f"{field}: no such option; {choice.component} takes {listed}", field=field
        )
    base: Any = kind() if present is None else present
    if getattr(base, choice.option, None) is not None:
        raise InvalidRequest(f"{field}: it is given twice", field=field)
    made: FamilyOptions = replace(base, **{choice.option: typed(kind, choice, field)})
    return made


def typed(kind: type[Any], choice: Choice, field: str) -> Any:
    """A value of the type that the option's field declares."""
    # Resolved, not `field.type`, which is text where a module delays its annotations.
    hint = get_type_hints(kind)[choice.option]
    (parse,) = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    try:
        return parse(choice.value)
    except ValueError:
        raise InvalidRequest(
            f"{field}: expected {parse.__name__}, got {choice.value[:80]!r}", field=field
        ) from None
