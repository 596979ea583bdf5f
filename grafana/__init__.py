"""The Grafana dashboards: their source, the JSON to import, and the screenshot renderer."""
