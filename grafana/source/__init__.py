"""Dashboards as code: `python -m grafana.source` writes grafana/dashboards; with `--check` it says what is stale."""
