"""Everything needed to produce comparable results: data sets, recipes, budgets, training, measurement and records."""
