//go:build tools

// Package kueue pins Kueue, which admits Jobs by queues.
package kueue

import _ "sigs.k8s.io/kueue/cmd/kueue"
