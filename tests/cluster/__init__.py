"""A real Kubernetes for tests, built from its Go modules and started on this machine.

Two levels: `control_plane` (etcd, API server, controller manager; no root, seconds) and `node` (all of it
in namespaces of its own, pods really run; root). `python -m cluster` builds, starts and ends them by hand.
"""
