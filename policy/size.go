package policy

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Decimal units are powers of 1000, binary ones of 1024 (IEC 80000-13).
var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1},
}

var errSize = errors.New(`expected a size such as 512, "64KiB" or "1MB"`)

// parseSize reads a number of bytes such as "0B", "10KB" or "1 MiB".
func parseSize(s string) (int64, error) {
	unit := int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSuffix(n, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return 0, errSize
	}
	return int64(n) * unit, nil
}
