"""Peers: identity, enrolment, policy, synchronisation and the remote sides of the two contracts."""
