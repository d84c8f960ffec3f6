"""Makes packaging/grafana/grafana.json, the dashboard of nodes; `--check` says whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[1] / "packaging" / "grafana" / "grafana.json"
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WHERE: Final = '{instance=~"$node"}'
"""What `{@}` stands for in a query."""
_PANELS: Final[tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...]] = (
    ("Instances received", "timeseries", "cps", (
        ("sum by (instance, via) (rate(peerpacs_instances_received_total{@}[5m]))", "{{instance}}, {{via}}"),
    )),
    ("Bytes received", "timeseries", "Bps", (
        ("sum by (instance) (rate(peerpacs_received_bytes_total{@}[5m]))", "{{instance}}"),
    )),
    ("C-STORE, 50 % and 95 %", "timeseries", "s", (
        ("histogram_quantile(0.5, sum by (le) (rate(peerpacs_store_seconds_bucket{@}[5m])))", "50 %"),
        ("histogram_quantile(0.95, sum by (le) (rate(peerpacs_store_seconds_bucket{@}[5m])))", "95 %"),
    )),
    ("C-FIND, 95 %", "timeseries", "s", (
        (
            "histogram_quantile(0.95, sum by (scope, le) (rate(peerpacs_find_seconds_bucket{@}[5m])))",
            "{{scope}}",
        ),
    )),
    ("Associations", "timeseries", "short", (
        ("peerpacs_associations{@}", "{{instance}} {{role}}"),
    )),
    ("Associations rejected in an hour", "timeseries", "short", (
        ("sum by (reason) (increase(peerpacs_association_rejections_total{@}[1h]))", "{{reason}}"),
    )),
    ("Transfers", "timeseries", "short", (
        ("sum by (state) (peerpacs_transfers{@})", "{{state}}"),
    )),
    ("Bytes between sites", "timeseries", "Bps", (
        ("sum by (peer, direction) (rate(peerpacs_transfer_bytes_total{@}[5m]))", "{{peer}} {{direction}}"),
    )),
    ("Peers", "timeseries", "bool_on_off", (
        ("peerpacs_peer_up{@}", "{{instance}} hears {{peer}}"),
    )),
    ("Age of copies of catalogs", "timeseries", "s", (
        ("peerpacs_peer_lag_seconds{@}", "{{instance}} of {{peer}}"),
    )),
    ("How sites took part in answers", "timeseries", "cps", (
        ("sum by (peer, part) (rate(peerpacs_grid_answers_total{@}[5m]))", "{{peer}} {{part}}"),
    )),
    ("Free space for objects", "timeseries", "bytes", (
        ("peerpacs_store_free_bytes{@}", "{{instance}}"),
    )),
    ("Instances, by availability", "timeseries", "short", (
        ("sum by (availability) (peerpacs_holdings{@})", "{{availability}}"),
    )),
    ("Days until certificates end", "timeseries", "d", (
        (
            "(peerpacs_certificate_expiry_timestamp_seconds{@} - time()) / 86400",
            "{{instance}} {{peer}}",
        ),
    )),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard, two panels in a row."""
    return {
        "uid": "peerpacs",
        "title": "PeerPACS",
        "tags": ["peerpacs", "dicom"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [_variable("source", "datasource", "prometheus"), _nodes()]},
        "panels": [_panel(at, *row) for at, row in enumerate(_PANELS)],
    }


def _variable(name: str, kind: str, query: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "query": query, "label": "Prometheus"}


def _nodes() -> dict[str, Any]:
    query = "label_values(peerpacs_build_info, instance)"
    return {
        "name": "node",
        "label": "Node",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "nodes"},
        "definition": query,
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(at: int, title: str, kind: str, unit: str, targets: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {
        "id": at + 1,
        "title": title,
        "type": kind,
        "datasource": _SOURCE,
        "gridPos": {"x": 12 * (at % 2), "y": 8 * (at // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(65 + n),
                "datasource": _SOURCE,
                "expr": query.replace("{@}", _WHERE),
                "legendFormat": legend,
            }
            for n, (query, legend) in enumerate(targets)
        ],
    }


def written() -> str:
    """Return the file as it should be."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        if PAGE.read_text() != written():
            sys.exit("packaging/grafana/grafana.json is not up to date. Run: python tools/grafana.py")
    else:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(written())
