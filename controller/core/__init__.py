"""The pure core: facts and `now` in, decisions out. No I/O, no clock, no randomness, standard library only."""
