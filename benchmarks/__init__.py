"""Everything that makes two numbers comparable: data sets, recipes, budgets, training, measurement and records."""
