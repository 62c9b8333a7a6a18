"""One Ray actor a block: forwards, local updates, and the links between the actors.

Read loop.py first: it shows what a block does.
"""
