"""The Grafana dashboards: generated, never edited by hand (observability §4)."""
