"""The DIMSE engine: associations (PS3.8), messages (PS3.7) and the services on them (PS3.4)."""
