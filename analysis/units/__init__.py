"""From tables of events to one row per exposed unit: sessions, plays, actions, counts."""
