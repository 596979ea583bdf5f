"""The source of the Grafana dashboards in grafana/dashboards."""
