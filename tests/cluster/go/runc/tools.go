//go:build tools

// Package runc pins what starts containers.
package runc

import (
	_ "github.com/opencontainers/runc"
)
