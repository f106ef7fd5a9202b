"""A search around a recipe, with Optuna: many short trials on validation, and the best recipe."""
