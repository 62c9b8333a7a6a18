"""The comparison with backpropagation: peers, really run; the limit; the simulator; the pictures.

Read peers.py first: it is whom errorcast is measured against.
"""
