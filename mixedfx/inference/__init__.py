"""From a fit to statements about the world: one question a file."""
