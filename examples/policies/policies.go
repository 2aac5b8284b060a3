// Package policies holds the example policies, for those who have the program
// and not its source. Each file is to be copied and changed.
package policies

import "embed"

// Files has the policies by their file names, such as "default.toml".
//
//go:embed *.toml
var Files embed.FS
