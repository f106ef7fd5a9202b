"""The daily loop of a feed team: one command from yesterday's log to today's bundle (docs/daily.md)."""
