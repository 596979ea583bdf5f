"""The Helm chart: rendered with Helm's own engine, and the files generated from it."""
