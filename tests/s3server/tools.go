//go:build tools

// Package s3server pins the S3 server that tests/store runs against.
package s3server

import _ "github.com/versity/versitygw/cmd/versitygw"
