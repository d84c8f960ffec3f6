"""Identity, enrolment, revocation, policy: who is who in a grid, and who may do what. No wire, no threads."""
