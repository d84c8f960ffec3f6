"""The wire of the grid: gRPC servers and channels over mutual TLS, sessions, enrolment, relay, discovery."""
