"""Grafana's dashboards, generated from code: `python -m deploy.dashboards` writes the committed JSON.

A panel has a title, a description and queries; everything else follows from the unit. Every query is run against a
real Prometheus by tests/integration/test_prometheus.py.
"""
