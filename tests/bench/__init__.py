"""Numbers, measured and reported, never asserted by the clock of whoever runs the suite: `make bench`."""
