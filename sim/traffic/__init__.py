"""What departments send and ask in a week: devices, hours, bursts, readers, and its replay."""
