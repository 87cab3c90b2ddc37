"""Stores: objects under unguessable names."""
