"""Measurements that stand next to the code: tables of all systems, an outside judge, speed. No test depends on them."""
