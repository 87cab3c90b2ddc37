"""The commands that look after rows and objects: their arguments, and how they are answered."""
