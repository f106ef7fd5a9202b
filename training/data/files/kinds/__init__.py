"""Item features by kind: how a cell is read, and how the values of all items become codes or numbers."""
