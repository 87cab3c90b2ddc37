"""Key encryption keys and the data keys they wrap."""
