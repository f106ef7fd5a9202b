"""One loop that trains every model, and what it shows of its progress."""
