"""Stores in Google Cloud Storage."""
