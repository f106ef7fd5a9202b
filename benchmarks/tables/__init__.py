"""Tables of many systems on one data set: every run that a table needs, and the results."""
