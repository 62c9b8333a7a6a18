"""Text for terminals of any width and encoding: tables, folded lines, spelling."""
