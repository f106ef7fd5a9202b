"""One file per source of interactions; each yields `Interactions` or says which file, line and column is wrong."""
