"""Turns measurements into rows, pictures and a page."""
