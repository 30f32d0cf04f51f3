"""Selection: which units go, and in which order. Imports scores and below."""
