//go:build tools

// Package prometheus pins what scrapes metrics and checks rules.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
