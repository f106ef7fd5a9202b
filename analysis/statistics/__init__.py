"""From units to estimates: lifts with intervals, and how many users a lift needs."""
