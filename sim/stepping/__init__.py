"""Whole nodes in one process, stepped by hand: which thread goes on is drawn from a seed.

Nothing here imports the node: what it uses of the system is replaced first, see `world`.
"""
