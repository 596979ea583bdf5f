"""Dashboards as code: `make generate` writes grafana/dashboards."""
