"""Plays: scenarios with expected transcripts, acted by real nodes that are cut off and killed."""
