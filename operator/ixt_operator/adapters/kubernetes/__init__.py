"""The platform on a cluster: children as Jobs and Deployments."""
