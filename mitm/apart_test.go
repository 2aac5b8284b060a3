package mitm

import (
	"fmt"
	"strings"
	"testing"
)

func TestApartPassesPanicsOn(t *testing.T) {
	defer func() {
		if v := fmt.Sprint(recover()); !strings.HasPrefix(v, "why\n") || !strings.Contains(v, "apart_test.go") {
			t.Errorf("panic %q, want the reason and the stack of where it was", v)
		}
	}()
	apart(func() { panic("why") })
	t.Error("no panic")
}
