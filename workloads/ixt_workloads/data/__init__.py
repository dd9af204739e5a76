"""Where documents come from, and the packed sequences that are trained on."""
