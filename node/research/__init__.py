"""Research near the source: projects, exports, the clinical trial interface, and what is held back.

Identified data never leaves the node that owns it. Whatever is released passed the anonymizer's verifier,
which shares no code with its engine; whatever cannot be vouched for is held, encrypted, until a person
decides.
"""
