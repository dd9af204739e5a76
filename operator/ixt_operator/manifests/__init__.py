"""Manifests as people write them: YAML and JSON read with lines, problems told in words."""
