"""Backups of a node while it runs, and homes made again from them.

A backup folder has one folder for each backup, named by its time and whole as soon as it has that name, and,
if asked for, one copy of the objects that all of them share.
"""

from .layout import Archived, Manifest, chosen, whole_backups
from .making import BackedUp, Wish, make_backup
from .proving import Proof, prove
from .restoring import Restored, refuse_half_restored, restore

__all__ = [
    "Archived",
    "BackedUp",
    "Manifest",
    "Proof",
    "Restored",
    "Wish",
    "chosen",
    "make_backup",
    "prove",
    "refuse_half_restored",
    "restore",
    "whole_backups",
]
