//go:build !unix || aix || solaris

package ca

import "os"

// lock: there is no such lock, and Load refuses there anyhow.
func lock(*os.File, bool) error { return nil }
