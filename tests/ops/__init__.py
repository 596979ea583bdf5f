"""What is delivered beside the program: rules, dashboards, chart."""
