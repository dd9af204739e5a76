//go:build tools

// Package versitygw pins an S3 server on a folder.
package versitygw

import _ "github.com/versity/versitygw/cmd/versitygw"
