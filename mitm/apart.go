package mitm

import (
	"fmt"
	"runtime/debug"
)

// apart runs f on a goroutine of its own and waits for its end. A goroutine keeps
// the stack that it has needed once, save that the collector halves one of which
// less than a quarter is in use. So what needs much of it for a moment, as
// handshakes do, is done apart from what stays for days. A panic is passed on, for
// those who contain it.
func apart(f func()) {
	var fault any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				fault = fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
		}()
		f()
	}()
	<-done
	if fault != nil {
		panic(fault)
	}
}
