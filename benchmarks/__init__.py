"""Measurements: tables of all systems, a comparison with RecBole, speed. No test depends on them."""

from contract import usage_reports

usage_reports.turn_off()
