//go:build tools

// Package trainer pins Kubeflow Trainer and JobSet, which it needs: the peer of benchmarks.
package trainer

import (
	_ "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager"
	_ "sigs.k8s.io/jobset"
)
