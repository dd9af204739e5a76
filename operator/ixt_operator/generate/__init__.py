"""Generators of what is made from the API's models: CRDs, chart templates, reference (`make crds`)."""
