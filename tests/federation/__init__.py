"""What nodes say to each other, and what becomes of it."""
