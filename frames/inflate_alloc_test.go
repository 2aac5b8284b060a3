//go:build !race

package frames

import "testing"

func TestInflateNoAllocations(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for name, context := range contexts {
		for _, idle := range []bool{false, true} {
			// Close is within the run, so that the next one finds the windows
			// of all sizes in the pool.
			f := NewInflater(context)
			run := func() {
				for i, m := range messages[name] {
					limit := int64(m.Size) - int64(i%2)
					if _, err := f.Inflate(limit, m.Payload); err != nil && err != ErrTooLarge {
						t.Fatal(name, err)
					}
					if idle {
						f.Release()
					}
				}
				f.Close()
			}
			if allocs := testing.AllocsPerRun(20, run); allocs != 0 {
				t.Errorf("%s, released %v: %v allocations", name, idle, allocs)
			}
		}
	}
}
