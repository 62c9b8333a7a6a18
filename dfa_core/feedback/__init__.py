"""How the global error reaches a layer: feedback rules, matrices, and message formats."""
