"""The charts, as specifications for Vega-Lite: what is drawn, over which of the page's data.

All share one axis of time, of which `start` and `end` say what part is shown, in milliseconds since
the epoch. The page's script sets them, and puts in the data.
Colours are the page's own (``var(--…)``), so that light, dark and paper are its matter alone.
"""

from typing import Any

from ops.report.fields import KINDS

Spec = dict[str, Any]

COLOURS = {kind: f"var(--{kind.replace(' ', '-')})" for kind in KINDS}
"""Of the kinds of fields."""

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


def charts(rows: list[str], has: set[str]) -> dict[str, Spec]:
    """Every chart that there is something for, by name.

    `rows` are the fields' names, one row each; `has` the names of what some weeks tell: vehicles,
    rate, retries.
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
            [_mark("rate", {"type": "point", "filled": True, "size": 22, "color": "var(--blue)"})],
            {"labelExpr": f"replace({_BYTES}, /$/, '/s')"},
        ),
        "retries": _chart(90, _bars("retries", "var(--amber)"), {"labelExpr": _COUNT}),
    }
    needs = {"vehicles": "vehicles", "speed": "rate", "retries": "retries"}
    return {
        name: spec
        for name, spec in made.items()
        if needs.get(name, "") in has | {""} and (rows or name != "fields")
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
    """A bar as broad as the week; none where nothing is known."""
    bar = _mark(field, {"type": "rect", "color": colour})
    bar["encoding"] |= {"x": {"field": "from", **_TIME}, "x2": {"field": "to"}, "y2": {"datum": 0}}
    bar["encoding"]["y"] |= {"scale": {"zero": True, "nice": 4}}
    return [bar]


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
