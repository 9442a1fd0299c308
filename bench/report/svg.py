"""Elements of SVG as text, escaped. Knows no figures."""

from collections.abc import Iterable, Sequence
from html import escape


def svg(width: float, height: float, parts: Iterable[str], title: str) -> str:
    """A picture that scales with the page and names itself to screen readers."""
    inner = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><title>{escape(title)}</title>{inner}</svg>'
    )


def box(corner: tuple[float, float], size: tuple[float, float], fill: str, tip: str = "") -> str:
    """A filled rectangle; `tip` is shown where the mouse rests on it."""
    words = f"<title>{escape(tip)}</title>" if tip else ""
    (x, y), (width, height) = corner, size
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
        f'height="{max(0.0, height):.1f}" fill="{fill}">{words}</rect>'
    )


def words(at: tuple[float, float], text: str, kind: str = "", anchor: str = "start") -> str:
    """Text; `kind` is a class of the page's style."""
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def path(points: Sequence[tuple[float, float]], stroke: str) -> str:
    """A line through points, and a dot at each."""
    if not points:
        return ""
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{stroke}"/>' for x, y in points)
    return f'<polyline points="{shown}" fill="none" stroke="{stroke}" stroke-width="2"/>{dots}'


def rule(start: tuple[float, float], end: tuple[float, float], stroke: str = "#ccc") -> str:
    """A thin straight line."""
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{stroke}"/>'
    )
