"""The architecture: imports point down, have no circles, and load heavy libraries late."""
