"""RecBole as an outside judge: our models and its own on the same rows."""
