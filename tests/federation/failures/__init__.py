"""The failure table: what two or more hospitals do when lines, clocks, machines or people fail."""
