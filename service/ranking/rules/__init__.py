"""Rules after scoring: diversity, boosts and age limits of the user's arm (docs/rules.md)."""
