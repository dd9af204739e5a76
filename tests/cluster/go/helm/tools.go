//go:build tools

// Package helm pins what installs charts.
package helm

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
