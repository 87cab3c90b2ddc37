"""Sealed over threshold over cached over a store: each holds the next."""
