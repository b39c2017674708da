"""Growth curves: small, and byte for byte the same for the same figures."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence

from tests.bench.harness import OURS, Measure, _number, _size

_OURS = "#1f5fa8"
_FAMILIES = {"sigfs": ["#7fb0e0", "#3fa79b"], "signac": ["#d9731a", "#b8433a"], "C": ["#777777"]}
_OTHERS = ["#4a9a5b", "#a3548f", "#b09a2a"]
_COLUMNS = 3
_STYLE = {
    "svg.hashsalt": "sigfs",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
}


def draw(measures: Iterable[Measure], folder: str, name: str) -> str | None:
    """Draw each measure over the number of jobs, all in one file; give its name, or None if there is no curve.

    Raises:
        ImportError: matplotlib is not installed (the ``bench`` extra).
    """
    curves: dict[str, list[Measure]] = {}
    for measure in measures:
        if measure.growth:
            curves.setdefault(measure.name, []).append(measure)
    curves = {title: sorted(points, key=lambda point: point.jobs) for title, points in curves.items()}
    curves = {title: points for title, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(_STYLE)
    from matplotlib import pyplot as plt

    columns = min(_COLUMNS, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.4 * columns, 2.5 * lines), squeeze=False)
    places = list(axes.flat)
    for place, (title, points) in zip(places, curves.items(), strict=False):
        _panel(place, title, points)
    for place in places[len(curves) :]:
        place.axis("off")
    figure.tight_layout()
    os.makedirs(folder, exist_ok=True)
    file = f"index-{name}.svg"
    path = os.path.join(folder, file)
    figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    plt.close(figure)
    with open(path, encoding="utf-8") as drawn:
        text = drawn.read()
    with open(path, "w", encoding="utf-8") as tidy:
        tidy.write(_smaller(text))
    return file


def _smaller(text: str) -> str:
    """Take out of a drawing what does not show: half of it."""
    text = re.sub(r' transform="rotate\(-0[^"]*"', "", text)
    text = re.sub(r"(\d+\.\d\d)\d+", r"\1", text)
    text = re.sub(r" font-family: [^;]*;", "", text).replace("</style>", "text{font-family: sans-serif}</style>")
    text = re.sub(r' id="(?!m|p[0-9a-f])[^"]*"', "", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", text)


def _panel(place: object, title: str, points: Sequence[Measure]) -> None:
    contestants = list(dict.fromkeys(name for point in points for name in point.samples))
    colours = {family: iter(shades * 3) for family, shades in {**_FAMILIES, "": _OTHERS}.items()}
    largest, smallest = 0.0, math.inf
    for name in contestants:
        known = [(point.jobs, point.median(name)) for point in points if name in point.samples]
        known = [(jobs, value) for jobs, value in known if value > 0]
        if not known:
            continue
        ours = name in (OURS, points[0].ours)
        first = name.split()[0].rstrip(",")
        family = first if first in colours else ""
        place.plot(  # type: ignore[attr-defined]
            *zip(*known, strict=True),
            marker="o",
            markersize=3,
            linewidth=1.8 if ours else 1.1,
            color=_OURS if ours else next(colours[family]),
            label=name,
            zorder=3 if ours else 2,
        )
        largest, smallest = max(largest, *(v for _, v in known)), min(smallest, *(v for _, v in known))
    sizes = sorted({point.jobs for point in points})
    place.set_xscale("log")  # type: ignore[attr-defined]
    place.set_xticks(sizes, [_size(size) for size in sizes])  # type: ignore[attr-defined]
    if smallest > 0 and largest / smallest > 20:
        place.set_yscale("log")  # type: ignore[attr-defined]
    else:
        place.set_ylim(0, largest * 1.25 or 1)  # type: ignore[attr-defined]
    place.minorticks_off()  # type: ignore[attr-defined]
    place.yaxis.set_major_formatter(lambda value, _: _number(value))  # type: ignore[attr-defined]
    place.set_title(f"{title} [{points[0].unit}]", fontsize=8, loc="left")  # type: ignore[attr-defined]
    place.grid(True, axis="y", linewidth=0.4, color="#dddddd")  # type: ignore[attr-defined]
    place.tick_params(bottom=False, left=False)  # type: ignore[attr-defined]
    for side in ("top", "right"):
        place.spines[side].set_visible(False)  # type: ignore[attr-defined]
    if len(contestants) > 1:
        place.legend(frameon=False, fontsize=6.5)  # type: ignore[attr-defined]
