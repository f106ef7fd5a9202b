"""The decision who is served what: the experiment file, its allowed changes, and the function that assigns an arm."""
