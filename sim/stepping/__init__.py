"""Whole nodes in one process, stepped by hand: a seed draws which thread goes on, and time is virtual.

Nothing here imports the node: what it uses of the system is replaced first, see `world`.
"""
