"""Pure bytes: the structures of `docs/format.md`. No I/O, no clock; randomness is passed in."""
