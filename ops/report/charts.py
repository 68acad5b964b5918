"""The charts, as specifications for Vega-Lite: what is drawn, over which of the page's data.

All share one axis of time, of which `start` and `end` say what part is shown, in milliseconds since
the epoch. The page's script sets them, and puts in the data.
Colours are the page's own (``var(--…)``), so that light, dark and paper are its matter alone.
"""

from dataclasses import dataclass
from typing import Any

from ops.report.fields import KINDS

Spec = dict[str, Any]

COLOURS = {kind: f"var(--{kind.replace(' ', '-')})" for kind in KINDS}
"""Of the kinds of fields."""

_DAY = 86_400_000
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
_CONFIG: Spec = {
    "aria": False,  # the page says it itself, week by week
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--line)",
        "gridColor": "var(--line)",
        "labelColor": "var(--quiet)",
        "labelFontSize": 12,
        "tickColor": "var(--line)",
        "title": None,
    },
    "axisY": {"domain": False, "ticks": False, "tickCount": 4, "minExtent": 62, "maxExtent": 62},
    "axisX": {
        "grid": False,
        # Of a short time Vega would name one tick by its weekday and the next one by its month.
        "labelExpr": (
            f"end - start < {200 * _DAY} ? utcFormat(datum.value, '%-d %b') : datum.label"
        ),
        "labelPadding": 5,
        "labelOverlap": True,
        "labelSeparation": 14,
        "labelFlush": True,
        "tickCount": {"expr": "max(3, width / 90)"},
    },
}
_TIME = {
    "type": "temporal",
    "scale": {
        "type": "utc",
        "domainMin": {"expr": "start"},
        "domainMax": {"expr": "end"},
        "nice": False,
    },
}
_COUNT = "!datum.value ? '0' : format(datum.value, '~s')"
_DOLLARS = "'$' + format(datum.value, datum.value % 1 ? '.2f' : ',.0f')"
_BYTES = (
    "!datum.value ? '0' : datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' GB' : "
    "datum.value >= 1e6 ? format(datum.value / 1e6, '~g') + ' MB' : "
    "format(datum.value / 1e3, '~g') + ' kB'"
)


@dataclass(frozen=True)
class Shown:
    """How much time there is to draw: so many weeks from a time on, and charts drawn by the day."""

    weeks: int
    start: int
    daily: frozenset[str]

    @property
    def ticks(self) -> Spec:
        """What the axis of time says of a short one: each day below its middle, or each Monday."""
        if self.weeks > 8:
            return {}
        if self.weeks > 2:
            return {"values": _values(self.start, 7 * _DAY, self.weeks), "tickCount": self.weeks}
        noons = _values(self.start + _DAY // 2, _DAY, 7 * self.weeks)
        form = "width < 420 ? '%a' : width < 700 ? '%a %-d' : '%a %-d %b'"
        axis = {"values": noons, "ticks": False, "labelExpr": f"utcFormat(datum.value, {form})"}
        # Of more values than the count Vega leaves the first and the last.
        return axis | {"tickCount": 7 * self.weeks, "labelFlush": False}


def _values(first: int, step: int, count: int) -> Spec:
    """Times for an axis; as an expression, for Vega-Lite takes plain numbers for no times."""
    return {"expr": str([first + step * at for at in range(count)])}


def charts(rows: list[str], has: set[str], shown: Shown) -> dict[str, Spec]:
    """Every chart that there is something for, by name.

    `rows` are the fields' names, one row each; `has` the names of what some weeks tell: vehicles,
    rate, retries, rawCost. Of one week, what has a single figure for it is not drawn.
    """
    made = {
        "records": _chart(170, _bars("records", "var(--blue)"), {"labelExpr": _COUNT}),
        "vehicles": _chart(110, _bars("vehicles", "var(--teal)"), {"labelExpr": _COUNT}),
        "sizes": _chart(
            170,
            [*_bars("raw", "var(--raw)"), *_bars("size", "var(--blue)")],
            {"labelExpr": _BYTES},
        ),
        "costs": _chart(
            150,
            [*_bars("rawCost", "var(--raw)"), *_bars("cost", "var(--blue)")],
            {"labelExpr": _DOLLARS},
        ),
        "fields": _fields(rows),
        "speed": _chart(
            150,
            [_points("rate", "var(--blue)")],
            {"labelExpr": f"datum.value ? replace({_BYTES}, /$/, '/s') : '0'"},
        ),
        "retries": _chart(90, _bars("retries", "var(--amber)"), {"labelExpr": _COUNT}),
    }
    for spec in made.values():
        for layer in spec["layer"] if shown.ticks else ():
            layer["encoding"]["x"] = layer["encoding"]["x"] | {"axis": shown.ticks}
    for name in shown.daily:
        for layer in made[name]["layer"]:  # or days that are alike would be one block
            layer["mark"] |= {"stroke": "var(--page)", "strokeWidth": 2 if shown.weeks < 3 else 1}
    needs = {"vehicles": "vehicles", "speed": "rate", "retries": "retries", "costs": "rawCost"}
    return {
        name: spec
        for name, spec in made.items()
        if needs.get(name, "") in has | {""}
        and (rows or name != "fields")
        and (shown.weeks > 1 or name in shown.daily)
    }


def _chart(height: int, layers: list[Spec], y_axis: Spec) -> Spec:
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 0, "right": 12, "top": 6, "bottom": 2},
        "params": [{"name": name, "value": None} for name in ("start", "end")],
        "layer": [*({**layer, "encoding": _with(layer, y_axis)} for layer in layers)],
        "config": _CONFIG,
    }


def _with(layer: Spec, y_axis: Spec) -> Spec:
    encoding: Spec = layer["encoding"]
    return encoding | {"y": {**encoding["y"], "axis": y_axis}}


def _mark(field: str, mark: Spec) -> Spec:
    return {
        "mark": {"clip": True, **mark},
        "encoding": {
            "x": {"field": "middle", **_TIME},
            "y": {"field": field, "type": "quantitative"},
        },
    }


def _bars(field: str, colour: str) -> list[Spec]:
    """A bar as broad as the week, or day; none where nothing is known."""
    bar = _mark(field, {"type": "rect", "color": colour})
    bar["encoding"] |= {"x": {"field": "from", **_TIME}, "x2": {"field": "to"}, "y2": {"datum": 0}}
    bar["encoding"]["y"] |= {"scale": {"zero": True, "nice": 4}}
    return [bar]


def _points(field: str, colour: str) -> Spec:
    points = _mark(field, {"type": "point", "filled": True, "size": 22, "color": colour})
    points["encoding"]["y"] |= {"scale": {"zero": True, "nice": 4}}
    return points


def _fields(names: list[str]) -> Spec:
    """A row for each field: bands of weeks, in the colour of what it holds."""
    band = {
        "mark": {"type": "bar", "clip": True, "height": {"band": 0.62}},
        "encoding": {
            "x": {"field": "from", **_TIME},
            "x2": {"field": "to"},
            "y": {"field": "row", "type": "ordinal", "scale": {"domain": list(range(len(names)))}},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
                "legend": None,
            },
        },
    }
    room = "(windowSize()[0] < 640 ? 104 : 150)"
    axis = {
        "labelExpr": "names[datum.value]",
        "labelColor": "var(--ink)",
        "labelLimit": {"expr": f"{room} - 6"},
        "minExtent": {"expr": room},
        "maxExtent": {"expr": room},
    }
    spec = _chart(20 * len(names), [band], axis)
    spec["params"].append({"name": "names", "value": names})
    return spec
