// Package endtoend has no code of its own: its tests run the built program in a
// network of its own, see [framegate/internal/lab], with real iptables rules,
// real clients and the origin of internal/lab/origin.
//
// What a client sent is compared with what the origin received and with what
// the log says, each of them seen from outside of the program. The tests need
// root.
package endtoend
