"""Everything that makes two numbers comparable: data, recipe, budget, measurement and records."""
