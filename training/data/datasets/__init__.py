"""One file per source of interactions; each yields `Interactions` or names the file, line and column of the error."""
