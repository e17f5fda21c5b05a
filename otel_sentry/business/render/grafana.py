"""Grafana's dashboard, with Prometheus (or Mimir) as its source, by Grafana's own typed builder.

That one is a tool of ours, not a dependency: ``pip install grafana-foundation-sdk`` (Python 3.11+).
"""

from __future__ import annotations

import json
from typing import Any

from otel_sentry.business.catalogue import PANELS, Panel
from otel_sentry.business.render import promql

_UNITS = {"s": "s", "1": "percentunit", None: "short"}
#: Columns and rows of the grid.
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


def dashboard() -> dict[str, Any]:
    """The JSON model of the dashboard, for Grafana 11 and later.

    Raises:
        ImportError: the builder is not installed.

    """
    from grafana_foundation_sdk.builders import dashboard as build
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    board = (
        build.Dashboard("Business and health (otel-sentry)")
        .uid("otel-sentry")
        .tags(["otel-sentry"])
        .editable()
        .time("now-6h", "now")
        .refresh("1m")
        .with_variable(build.DatasourceVariable("datasource").type("prometheus"))
    )
    for number, panel in enumerate(PANELS):
        board.with_panel(_panel(number, panel))
    found: dict[str, Any] = json.loads(JSONEncoder(sort_keys=False).encode(board.build()))
    return found


def _panel(number: int, panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, prometheus, timeseries
    from grafana_foundation_sdk.models import common as models
    from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

    source = DataSourceRef(type_val="prometheus", uid="${datasource}")
    row, column = divmod(number, _COLUMNS)
    legend = (
        common.VizLegendOptions()
        .display_mode(models.LegendDisplayMode.TABLE)  # type: ignore[arg-type]  # its enums are texts
        .placement(models.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    chart = (
        timeseries.Panel()
        .id(number + 1)
        .title(panel.title)
        .description(panel.doc)
        .datasource(source)
        .grid_pos(GridPos(x=column * _WIDTH, y=row * _HEIGHT, w=_WIDTH, h=_HEIGHT))
        .unit(_UNITS[panel.unit])
        .min(0)
        .legend(legend)
    )
    for index, (label, query) in enumerate(panel.queries):
        chart.with_target(
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + index))
            .datasource(source)
            .expr(promql.expression(query))
            .legend_format(label.replace("{", "{{").replace("}", "}}"))
        )
    return chart
