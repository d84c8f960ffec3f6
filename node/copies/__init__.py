"""Copies: what this node keeps for others, and others for it: by rule, with receipts and proofs."""
