"""The API ixt.dev/v1alpha1: models, the CRDs made from them, and manifests read from files.

Imports pydantic, yaml and the contract only, so that `ixt validate` answers at once.
"""
