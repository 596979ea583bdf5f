"""The Grafana dashboards: their source, the JSON to import, and what draws pictures of them."""
