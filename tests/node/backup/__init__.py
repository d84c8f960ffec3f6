"""Backup, restore and rebuild: nothing acknowledged is missing afterwards, nothing rejected comes back."""
