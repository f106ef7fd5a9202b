"""Grafana's dashboards, made from code: `python -m deploy.dashboards` writes the committed JSON.

A panel is a title, what it shows, and its queries; everything else follows from the unit. Every query is run against a
real Prometheus by tests/integration/test_prometheus.py.
"""
