"""How the global error reaches a layer: feedback matrices, rules, and formats on the wire."""
