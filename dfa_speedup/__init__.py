"""The comparison with backpropagation: peers that really run, the limit, simulator and pictures.

Read peers.py first: it lists what errorcast is measured against.
"""
