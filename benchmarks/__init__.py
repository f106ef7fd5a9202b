"""Measurements that stand beside the code: tables of all systems, an outside judge, speed. No test depends on them."""
